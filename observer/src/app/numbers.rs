//! Numbers of interfaces in the programs and their maps.

use std::{collections::BTreeSet, sync::mpsc::Receiver};

use crate::{flow::InterfaceNumber, kernel::KernelError};

/// Allocator of interface numbers. A number is reused only after the tick thread has recorded
/// everything that was counted under it.
#[derive(Debug)]
pub(super) struct Numbers {
    last: u16,
    next: u16,
    /// Numbers of interfaces of an earlier run, until they are freed like others.
    reserved: BTreeSet<InterfaceNumber>,
    free: Vec<InterfaceNumber>,
    freed: Receiver<InterfaceNumber>,
}

impl Numbers {
    /// Allocates numbers from 1 to `last`, except those of an earlier run (`reserved`). Numbers
    /// from `freed` are reused.
    pub(super) const fn new(
        last: u16,
        reserved: BTreeSet<InterfaceNumber>,
        freed: Receiver<InterfaceNumber>,
    ) -> Self {
        Self { last, next: 1, reserved, free: Vec::new(), freed }
    }

    /// Takes back a number under which nothing was counted.
    pub(super) fn give_back(&mut self, number: InterfaceNumber) {
        self.free.push(number);
    }

    pub(super) fn take(&mut self) -> Result<InterfaceNumber, KernelError> {
        // A number of an earlier run may exceed the maps of this one.
        self.free.extend(self.freed.try_iter().filter(|number| number.get() <= self.last));
        while self.reserved.contains(&InterfaceNumber::new(self.next)) {
            self.next += 1;
        }
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
