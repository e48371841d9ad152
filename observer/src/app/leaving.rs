//! Taking the programs off, on a thread of its own: the kernel waits for a grace period each time, and a new interface
//! shall not wait for one that leaves.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
};

use super::{attached::Attached, tick::Message};
use crate::{
    accounts::Event,
    kernel::{OwnQdisc, remove_quiet},
    worker::QueueWorker,
};

/// What leaves, and whoever waits until it has left.
type Job = (Vec<Attached>, Option<Sender<()>>);

/// The thread that takes programs off.
#[derive(Debug)]
pub(super) struct Leaving {
    jobs: QueueWorker<Job>,
}

impl Leaving {
    /// Tells `tick` of each interface when nothing more is counted on it.
    pub(super) fn start(tick: Sender<Message>) -> io::Result<Self> {
        // On a thread of its own: it takes a while to see that an interface is quiet.
        let qdiscs = QueueWorker::spawn("qdiscs", |qdiscs: Receiver<Vec<OwnQdisc>>| {
            qdiscs.iter().for_each(|qdiscs| remove_quiet(&qdiscs));
        })?;
        let jobs = QueueWorker::spawn("leaving", move |jobs: Receiver<Job>| {
            for (leaving, done) in jobs {
                let own: Vec<_> =
                    leaving.into_iter().filter_map(|attached| take_off(attached, &tick)).collect();
                if !own.is_empty() {
                    qdiscs.send(own);
                }
                drop(done);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Takes the programs off, and returns when they are off.
    pub(super) fn take_off(&self, leaving: Vec<Attached>) {
        let (done, off) = channel();
        self.send(leaving, Some(done));
        // The other end is dropped when it is done.
        let _ = off.recv();
    }

    /// Takes the programs off when there is time.
    pub(super) fn take_off_soon(&self, leaving: Vec<Attached>) {
        self.send(leaving, None);
    }

    fn send(&self, leaving: Vec<Attached>, done: Option<Sender<()>>) {
        if !leaving.is_empty() {
            self.jobs.send((leaving, done));
        }
    }
}

fn take_off(attached: Attached, tick: &Sender<Message>) -> Option<OwnQdisc> {
    let Attached { observed, number, attachment, .. } = attached;
    let interface = &observed.interface;
    let qdisc = attachment.detach().unwrap_or_else(|error| {
        tracing::warn!(interface = &*interface.name, %error, "the programs could not be taken off");
        None
    });
    tracing::info!(
        interface = &*interface.name,
        mac = interface.mac.map(tracing::field::display),
        netns = %interface.netns.path.display(),
        "no longer observing an interface"
    );
    // Whatever they counted is in the maps now, and the next drain brings it.
    let _ = tick.send(Event::Retire { number }.into());
    qdisc
}
