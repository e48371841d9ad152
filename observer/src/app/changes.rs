//! Messages to the thread that attaches and detaches programs.

use std::sync::mpsc::Sender;

use crate::{
    kernel::Missing,
    tasks::{InterfaceKey, Tidings},
};

/// A reason to look at the interfaces.
#[derive(Debug)]
pub(super) enum Change {
    /// The watch reports interfaces.
    Watch(Tidings),
    /// Programs are gone from an interface.
    Removed(InterfaceKey, Missing),
    /// An interface carries frames that its programs do not see.
    Suspected(InterfaceKey),
    /// The daemon ends.
    Stop,
}

/// Stops the thread when dropped. Its channel alone does not: other senders of the channel live as
/// long as the thread.
pub(super) struct StopOnDrop(pub(super) Sender<Change>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Change::Stop);
    }
}
