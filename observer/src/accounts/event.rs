use std::sync::Arc;

use super::Frames;
use crate::{
    flow::{InterfaceNumber, Traffic},
    record::Subject,
    tasks::{InterfaceKey, Observed},
};

/// News of an interface, from the thread that attaches and detaches programs.
#[derive(Clone, Debug)]
pub enum Event {
    /// Programs that count under this number are about to be attached.
    Register {
        /// Its number in the programs.
        number: InterfaceNumber,
        /// The interface.
        key: InterfaceKey,
        /// Text of its records.
        named: Named,
    },
    /// The programs of both directions are attached: from now on all packets are counted.
    Attached {
        /// Its number in the programs.
        number: InterfaceNumber,
        /// Name of the hook that counts ingress.
        hook: &'static str,
        /// Traffic that crossed the interface before, by direction.
        missed: [Traffic; 2],
    },
    /// Its programs have been removed: packets pass uncounted.
    Removed {
        /// Its number in the programs.
        number: InterfaceNumber,
    },
    /// The programs are attached again.
    Restored {
        /// Its number in the programs.
        number: InterfaceNumber,
        /// Name of the hook that counts ingress.
        hook: &'static str,
        /// Traffic that crossed the interface meanwhile, by direction.
        missed: [Traffic; 2],
    },
    /// A reading of the interface's own counters, if it still has this number.
    Carried {
        /// The number it was registered under.
        number: InterfaceNumber,
        /// The interface.
        key: InterfaceKey,
        /// Frames that it has carried since it was attached, by direction.
        carried: [Frames; 2],
        /// Traffic among these that certainly passed the programs by, and is new, by direction.
        unseen: [Traffic; 2],
    },
    /// The interface was gone before any packet could be counted.
    Missed {
        /// A number under which nothing is counted.
        number: InterfaceNumber,
        /// The interface.
        key: InterfaceKey,
        /// Text of its records.
        named: Named,
    },
    /// More has become known of the interface, if it still has this number.
    Rename {
        /// The number it was registered under.
        number: InterfaceNumber,
        /// The interface.
        key: InterfaceKey,
        /// Text of its records from now on.
        named: Named,
    },
    /// The programs are detached: no more packets will be counted under this number.
    Retire {
        /// Its number in the programs.
        number: InterfaceNumber,
    },
}

/// Identity of an interface, as its records carry it.
#[derive(Clone, Debug)]
pub struct Named {
    /// Text of its records.
    pub subject: Arc<Subject>,
    /// A source may still identify the interface: records of its first window wait for that.
    pub awaits_identity: bool,
    /// The interface existed before the daemon.
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
    /// [`Event::Register`] of an observed interface.
    pub fn register(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Register { number, key: observed.key, named: Named::new(observed) }
    }

    /// [`Event::Missed`] of an interface that was to be observed.
    pub fn missed(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Missed { number, key: observed.key, named: Named::new(observed) }
    }

    /// [`Event::Rename`] of an observed interface.
    pub fn rename(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Rename { number, key: observed.key, named: Named::new(observed) }
    }
}
