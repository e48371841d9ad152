//! Numbers of interfaces in the programs and their maps.

use std::sync::mpsc::Receiver;

use crate::{flow::InterfaceNumber, kernel::KernelError};

/// Allocator of interface numbers. A number is reused only after the tick thread has recorded
/// everything that was counted under it.
#[derive(Debug)]
pub(super) struct Numbers {
    last: u16,
    next: u16,
    free: Vec<InterfaceNumber>,
    freed: Receiver<InterfaceNumber>,
}

impl Numbers {
    /// Allocates numbers from 1 to `last`. Numbers from `freed` are reused.
    pub(super) const fn new(last: u16, freed: Receiver<InterfaceNumber>) -> Self {
        Self { last, next: 1, free: Vec::new(), freed }
    }

    /// Takes back a number under which nothing was counted.
    pub(super) fn give_back(&mut self, number: InterfaceNumber) {
        self.free.push(number);
    }

    pub(super) fn take(&mut self) -> Result<InterfaceNumber, KernelError> {
        self.free.extend(self.freed.try_iter());
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        if self.next > self.last {
            return Err(KernelError::TooManyInterfaces(self.last));
        }
        self.next += 1;
        Ok(InterfaceNumber::new(self.next - 1))
    }
}
