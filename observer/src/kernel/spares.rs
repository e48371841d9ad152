//! Programs that are loaded before they are needed.
//!
//! Loading takes tens of milliseconds, during which the first packets of a new task would not be
//! counted.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
};

use super::{KernelError, Loader, Programs};
use crate::{flow::InterfaceNumber, worker::QueueWorker};

/// Programs loaded for future interfaces, and the thread that loads them.
#[derive(Debug)]
pub struct Spares {
    loader: Arc<Mutex<Loader>>,
    wanted: QueueWorker<InterfaceNumber>,
    loaded: Receiver<Spare>,
    /// Number of programs loaded or being loaded.
    count: usize,
}

type Spare = (InterfaceNumber, Result<Programs, KernelError>);

impl Spares {
    /// Starts the thread. It loads nothing until [`prepare`](Self::prepare) is called.
    pub fn start(loader: Loader) -> io::Result<Self> {
        let loader = Arc::new(Mutex::new(loader));
        let (done, spares) = channel();
        let shared = Arc::clone(&loader);
        let wanted = QueueWorker::spawn("spares", move |numbers: Receiver<InterfaceNumber>| {
            for number in numbers {
                let programs = lock(&shared).load(number.get(), true).map(Programs::without_maps);
                if done.send((number, programs)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { loader, wanted, loaded: spares, count: 0 })
    }

    /// Number of spares that are loaded or being loaded.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Starts loading the programs for an Ethernet interface with this number.
    pub fn prepare(&mut self, number: InterfaceNumber) {
        if self.wanted.send(number) {
            self.count += 1;
        }
    }

    /// Takes the next spare. Waits if it is being loaded; returns `None` if there is none.
    pub fn take(&mut self) -> Option<(InterfaceNumber, Result<Programs, KernelError>)> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        self.loaded.recv().ok()
    }

    /// Loader of the spares, for loading other programs.
    pub fn loader(&self) -> MutexGuard<'_, Loader> {
        lock(&self.loader)
    }
}

fn lock(loader: &Mutex<Loader>) -> MutexGuard<'_, Loader> {
    loader.lock().unwrap_or_else(PoisonError::into_inner)
}
