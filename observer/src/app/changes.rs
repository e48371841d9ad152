//! Messages to the thread that attaches and detaches programs.

use std::sync::mpsc::Sender;

use crate::{
    kernel::Missing,
    tasks::{InterfaceKey, WatchUpdate},
};

/// A reason to examine the interfaces.
#[derive(Debug)]
pub(super) enum Change {
    /// A message from the watch.
    Watch(WatchUpdate),
    /// Programs are missing from an interface.
    Removed(InterfaceKey, Missing),
    /// An interface carries frames that its programs do not see.
    Suspected(InterfaceKey),
    /// The daemon stops.
    Stop,
}

/// Stops the thread when dropped. Closing the channel alone does not, because other senders of the
/// channel live as long as the thread.
pub(super) struct StopOnDrop(pub(super) Sender<Change>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Change::Stop);
    }
}
