//! The end of the take-over of an earlier run's interfaces.

use std::collections::BTreeMap;

use super::{interfaces::Interfaces, tick::Message};
use crate::{
    accounts::Event,
    journal::LeftInterface,
    kernel::{LinkPins, remove_filters},
    linux::netns::Netns,
};

impl Interfaces {
    /// Ends the take-over, if it is over or `now` is true. Programs of interfaces that were not taken
    /// over are detached.
    pub(super) fn end_take_over(&mut self, now: bool) {
        let Some(left) = self.take_over.end(now) else { return };
        let attached = self.attached.values().map(|attached| attached.number).collect();
        LinkPins::remove_others(&self.links, &attached);
        if !left.is_empty() {
            detach(&left, self.handle);
        }
        for left in left {
            let _ = self.tick.send(Event::Retire { number: left.number }.into());
        }
        let _ = self.tick.send(Message::TakenOver);
    }
}

/// Removes the filters from interfaces of an earlier run.
fn detach(left: &[LeftInterface], handle: u16) {
    let namespaces: BTreeMap<_, _> =
        Netns::all().into_iter().map(|netns| (netns.inode, netns)).collect();
    for left in left {
        let Some(netns) = namespaces.get(&left.netns) else { continue };
        if let Err(error) = remove_filters(netns, left.ifindex, handle) {
            tracing::warn!(
                netns = %netns.path.display(), ifindex = left.ifindex, %error,
                "the programs of an earlier run could not be detached"
            );
        }
    }
}
