//! Detaching of programs, on a thread of its own: the kernel waits for a grace period each time,
//! and a new interface must not wait for one that leaves.

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

/// Interfaces to detach, and a sender that is dropped once they are detached.
type Job = (Vec<Attached>, Option<Sender<()>>);

/// The thread that detaches programs.
#[derive(Debug)]
pub(super) struct Leaving {
    jobs: QueueWorker<Job>,
}

impl Leaving {
    /// Starts the thread. It reports each interface to `tick` once no more packets are counted on
    /// it.
    pub(super) fn start(tick: Sender<Message>) -> io::Result<Self> {
        // On another thread, because it takes a while to detect that an interface is quiet.
        let qdiscs = QueueWorker::spawn("qdiscs", |qdiscs: Receiver<Vec<OwnQdisc>>| {
            for own in qdiscs {
                remove_quiet(&own);
            }
        })?;
        let jobs = QueueWorker::spawn("leaving", move |jobs: Receiver<Job>| {
            for (leaving, done) in jobs {
                let own: Vec<_> =
                    leaving.into_iter().filter_map(|attached| detach(attached, &tick)).collect();
                if !own.is_empty() {
                    qdiscs.send(own);
                }
                drop(done);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Detaches programs, and returns when they are detached.
    pub(super) fn detach(&self, leaving: Vec<Attached>) {
        let (done, off) = channel();
        self.send(leaving, Some(done));
        // The other end is dropped once the programs are detached.
        let _ = off.recv();
    }

    /// Detaches programs later, without waiting.
    pub(super) fn detach_later(&self, leaving: Vec<Attached>) {
        self.send(leaving, None);
    }

    fn send(&self, leaving: Vec<Attached>, done: Option<Sender<()>>) {
        if !leaving.is_empty() {
            self.jobs.send((leaving, done));
        }
    }
}

fn detach(attached: Attached, tick: &Sender<Message>) -> Option<OwnQdisc> {
    let Attached { observed, number, attachment, .. } = attached;
    let interface = &observed.interface;
    let qdisc = attachment.detach().unwrap_or_else(|error| {
        tracing::warn!(interface = &*interface.name, %error, "the programs could not be detached");
        None
    });
    tracing::info!(
        interface = &*interface.name,
        mac = interface.mac.map(tracing::field::display),
        netns = %interface.netns.path.display(),
        "no longer observing an interface"
    );
    // All their counts are in the maps now. The next drain reads them.
    let _ = tick.send(Event::Retire { number }.into());
    qdisc
}
