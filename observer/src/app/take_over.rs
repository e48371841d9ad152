//! Taking over the interfaces of an earlier run, whose programs are still attached.
//!
//! An interface keeps its number. Its programs are replaced in place, so that each packet is counted
//! once: by the old program into the maps of the earlier run, or by the new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{interfaces::Interfaces, tick::Message};
use crate::{
    accounts::Event,
    flow::InterfaceNumber,
    journal::LeftInterface,
    kernel::{Hook, LinkPins, remove_filters},
    linux::netns::Netns,
    tasks::Observed,
};

/// Time for the sources to name the interfaces of an earlier run. Until then its programs count on
/// interfaces that are not chosen yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interfaces of an earlier run that are not taken over yet.
#[derive(Debug)]
pub(super) struct TakeOver {
    /// By the inode of the namespace and the index.
    left: BTreeMap<(u64, u32), LeftInterface>,
    /// Time until which they may be taken over; `None` if the take-over has ended.
    until: Option<Instant>,
}

impl TakeOver {
    pub(super) fn new(left: Vec<LeftInterface>) -> Self {
        let left = left.into_iter().map(|it| ((it.netns, it.ifindex), it)).collect();
        Self { left, until: Some(Instant::now() + PATIENCE) }
    }

    /// Numbers of all interfaces.
    pub(super) fn numbers(&self) -> BTreeSet<InterfaceNumber> {
        self.left.values().map(|left| left.number).collect()
    }

    /// Number that the earlier run has given to an interface; `None` for another interface.
    pub(super) fn number_of(&mut self, observed: &Observed) -> Option<InterfaceNumber> {
        let place = (observed.key.netns, observed.key.ifindex);
        let mac = observed.interface.mac.map(|mac| mac.to_string()).unwrap_or_default();
        self.left.get(&place).filter(|left| *left.mac == *mac)?;
        self.left.remove(&place).map(|left| left.number)
    }

    /// Time at which the take-over ends.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.until
    }
}

impl Interfaces {
    /// Ends the take-over, if all interfaces are taken over, time is up, or `now` is true. Programs
    /// of interfaces that were not taken over are detached.
    pub(super) fn end_take_over(&mut self, now: bool) {
        let Some(until) = self.take_over.until else { return };
        if !now && !self.take_over.left.is_empty() && Instant::now() < until {
            return;
        }
        self.take_over.until = None;
        let left: Vec<_> = std::mem::take(&mut self.take_over.left).into_values().collect();
        let attached = self.attached.values().map(|attached| attached.number).collect();
        LinkPins::remove_others(&self.links, &attached);
        if let Hook::Clsact { handle } = self.hook
            && !left.is_empty()
        {
            let namespaces: BTreeMap<_, _> =
                Netns::all().into_iter().map(|netns| (netns.inode, netns)).collect();
            for left in &left {
                let Some(netns) = namespaces.get(&left.netns) else { continue };
                if let Err(error) = remove_filters(netns, left.ifindex, handle) {
                    tracing::warn!(
                        netns = %netns.path.display(), ifindex = left.ifindex, %error,
                        "the programs of an earlier run could not be detached"
                    );
                }
            }
        }
        for left in left {
            let _ = self.tick.send(Event::Retire { number: left.number }.into());
        }
        let _ = self.tick.send(Message::TakenOver);
    }
}
