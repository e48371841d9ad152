//! Programs that are loaded before they are needed.
//!
//! A load takes tens of milliseconds, in which the first packets of a new task would pass uncounted.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::{KernelError, Loader, Programs};
use crate::flow::InterfaceNumber;

/// Loaded programs of interfaces to come, and the thread that loads them.
#[derive(Debug)]
pub struct Spares {
    loader: Arc<Mutex<Loader>>,
    wanted: Option<Sender<InterfaceNumber>>,
    loaded: Receiver<Spare>,
    /// Those that are loaded, or soon will be.
    count: usize,
    thread: Option<JoinHandle<()>>,
}

type Spare = (InterfaceNumber, Result<Programs, KernelError>);

impl Spares {
    /// None yet.
    pub fn start(loader: Loader) -> io::Result<Self> {
        let loader = Arc::new(Mutex::new(loader));
        let (wanted, numbers) = channel::<InterfaceNumber>();
        let (done, spares) = channel();
        let shared = Arc::clone(&loader);
        let thread = thread::Builder::new().name("spares".into()).spawn(move || {
            for number in numbers {
                let programs = lock(&shared).load(number.get(), true).map(Programs::without_maps);
                if done.send((number, programs)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { loader, wanted: Some(wanted), loaded: spares, count: 0, thread: Some(thread) })
    }

    /// How many are loaded, or soon will be.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Has the programs of an Ethernet interface with this number loaded.
    pub fn prepare(&mut self, number: InterfaceNumber) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.send(number).is_ok()) {
            self.count += 1;
        }
    }

    /// The next ones, which may still be in the making. `None` where none were prepared.
    pub fn take(&mut self) -> Option<(InterfaceNumber, Result<Programs, KernelError>)> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        self.loaded.recv().ok()
    }

    /// What loads them, for programs of another kind.
    pub fn loader(&self) -> MutexGuard<'_, Loader> {
        lock(&self.loader)
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.wanted = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(loader: &Mutex<Loader>) -> MutexGuard<'_, Loader> {
    loader.lock().unwrap_or_else(PoisonError::into_inner)
}
