//! Taking the programs off, on a thread of its own: the kernel waits for a grace period each time, and a new interface
//! shall not wait for one that leaves.

use std::{
    io,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
};

use super::{attached::Attached, tick::Message};
use crate::{
    accounts::Event,
    kernel::{OwnQdisc, remove_quiet},
};

/// What leaves, and whoever waits until it has left.
type Job = (Vec<Attached>, Option<Sender<()>>);

/// The thread that takes programs off.
#[derive(Debug)]
pub(super) struct Leaving {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Leaving {
    /// Tells `tick` of each interface when nothing more is counted on it.
    pub(super) fn start(tick: Sender<Message>) -> io::Result<Self> {
        let (jobs, leaving) = channel::<Job>();
        let qdiscs = Qdiscs::start()?;
        let thread = thread::Builder::new().name("leaving".into()).spawn(move || {
            for (leaving, done) in leaving {
                qdiscs.remove(leaving.into_iter().filter_map(|attached| take_off(attached, &tick)).collect());
                drop(done);
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
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
        if let Some(jobs) = self.jobs.as_ref().filter(|_| !leaving.is_empty()) {
            let _ = jobs.send((leaving, done));
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
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

/// Removes qdiscs on a thread of its own: it takes a while to see that an interface is quiet.
#[derive(Debug)]
struct Qdiscs {
    left: Option<Sender<Vec<OwnQdisc>>>,
    thread: Option<JoinHandle<()>>,
}

impl Qdiscs {
    fn start() -> io::Result<Self> {
        let (left, qdiscs) = channel::<Vec<_>>();
        let remove = move || qdiscs.iter().for_each(|qdiscs| remove_quiet(&qdiscs));
        let thread = thread::Builder::new().name("qdiscs".into()).spawn(remove)?;
        Ok(Self { left: Some(left), thread: Some(thread) })
    }

    fn remove(&self, qdiscs: Vec<OwnQdisc>) {
        if let Some(left) = self.left.as_ref().filter(|_| !qdiscs.is_empty()) {
            let _ = left.send(qdiscs);
        }
    }
}

impl Drop for Qdiscs {
    fn drop(&mut self) {
        self.left = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
