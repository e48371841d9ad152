use std::sync::Arc;

use super::Frames;
use crate::{
    flow::{InterfaceNumber, Traffic},
    record::Subject,
    tasks::{InterfaceKey, Observed},
};

/// Event of an interface, from the threads that attach, check and detach its programs.
#[derive(Clone, Debug)]
pub enum Event {
    /// Programs that count under this number are about to be attached.
    Register {
        /// Number of the interface in the programs.
        number: InterfaceNumber,
        /// Key of the interface.
        key: InterfaceKey,
        /// Identity in its records.
        named: Named,
    },
    /// The programs of both directions are attached. All packets are counted from now on.
    Attached {
        /// Number of the interface in the programs.
        number: InterfaceNumber,
        /// Name of the hook that counts ingress.
        hook: &'static str,
        /// Traffic that crossed the interface before, by direction.
        missed: [Traffic; 2],
    },
    /// The programs were removed. Packets pass uncounted.
    Removed {
        /// Number of the interface in the programs.
        number: InterfaceNumber,
    },
    /// The programs are attached again.
    Restored {
        /// Number of the interface in the programs.
        number: InterfaceNumber,
        /// Name of the hook that counts ingress.
        hook: &'static str,
        /// Traffic that crossed the interface in the meantime, by direction.
        missed: [Traffic; 2],
    },
    /// A reading of the interface's own counters. Ignored if the number is no longer the
    /// interface's.
    Carried {
        /// Number under which the interface was registered.
        number: InterfaceNumber,
        /// Key of the interface.
        key: InterfaceKey,
        /// Frames by the interface's own counters since it was attached, by direction.
        carried: [Frames; 2],
        /// Traffic that has certainly bypassed the programs and was not reported before, by
        /// direction.
        unseen: [Traffic; 2],
    },
    /// The interface was gone before any packet could be counted.
    Missed {
        /// Number under which no packet is counted.
        number: InterfaceNumber,
        /// Key of the interface.
        key: InterfaceKey,
        /// Identity in its records.
        named: Named,
    },
    /// The identity of the interface has changed. Ignored if the number is no longer the
    /// interface's.
    Rename {
        /// Number under which the interface was registered.
        number: InterfaceNumber,
        /// Key of the interface.
        key: InterfaceKey,
        /// Identity in its records from now on.
        named: Named,
    },
    /// The programs are detached. No more packets will be counted under this number.
    Retire {
        /// Number of the interface in the programs.
        number: InterfaceNumber,
    },
}

/// Identity of an interface in its records.
#[derive(Clone, Debug)]
pub struct Named {
    /// Subject of its records.
    pub subject: Arc<Subject>,
    /// True if a source may still identify the interface. The records of its first window are then
    /// held.
    pub awaits_identity: bool,
    /// True if the interface existed before the daemon.
    pub older: bool,
}

impl Named {
    /// Identity of an observed interface.
    pub fn new(observed: &Observed) -> Self {
        Self {
            subject: Arc::new(Subject::new(observed)),
            awaits_identity: observed.awaits_identity,
            older: observed.older,
        }
    }
}

impl Event {
    /// Creates [`Event::Register`] for an observed interface.
    pub fn register(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Register { number, key: observed.key, named: Named::new(observed) }
    }

    /// Creates [`Event::Missed`] for an interface that was gone before it could be observed.
    pub fn missed(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Missed { number, key: observed.key, named: Named::new(observed) }
    }

    /// Creates [`Event::Rename`] for an observed interface.
    pub fn rename(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Rename { number, key: observed.key, named: Named::new(observed) }
    }
}
