//! Programs that are loaded before they are needed.
//!
//! Loading takes tens of milliseconds, during which the first packets of a new task would not be
//! counted.

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

/// Programs loaded for future interfaces, and the thread that loads them.
#[derive(Debug)]
pub struct Spares {
    loader: Arc<Mutex<Loader>>,
    wanted: Option<Sender<InterfaceNumber>>,
    loaded: Receiver<Spare>,
    /// Number of programs loaded or being loaded.
    count: usize,
    thread: Option<JoinHandle<()>>,
}

type Spare = (InterfaceNumber, Result<Programs, KernelError>);

impl Spares {
    /// Starts the thread. It loads nothing until [`prepare`](Self::prepare) is called.
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

    /// Number of spares that are loaded or being loaded.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Starts loading the programs for an Ethernet interface with this number.
    pub fn prepare(&mut self, number: InterfaceNumber) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.send(number).is_ok()) {
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
