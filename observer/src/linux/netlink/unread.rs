//! Counts of netlink messages that could not be read, for the whole process.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// Subject of a message: values of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interface.
    Link,
    /// An address of an interface.
    Address,
    /// The ID of a namespace.
    Netns,
    /// A qdisc or a filter.
    Hook,
    /// A datagram with an invalid length.
    Datagram,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Link, Self::Address, Self::Netns, Self::Hook, Self::Datagram];

    /// Value of the label `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Netns => "netns",
            Self::Hook => "hook",
            Self::Datagram => "datagram",
        }
    }
}

static COUNTS: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];

/// Number of unreadable messages since the process started.
pub fn unread(kind: Kind) -> u64 {
    COUNTS[kind as usize].load(Ordering::Relaxed)
}

/// Counts a message. Logs the first of each kind with its bytes.
pub(super) fn count(kind: Kind, bytes: &[u8]) {
    const SHOWN: usize = 256;
    if COUNTS[kind as usize].fetch_add(1, Ordering::Relaxed) != 0 {
        return;
    }
    let mut hex = String::new();
    for byte in bytes.iter().take(SHOWN) {
        let _ = write!(hex, "{byte:02x}");
    }
    tracing::warn!(
        kind = kind.as_str(),
        bytes = %hex,
        "a netlink message could not be decoded completely: \
         observer_netlink_unread_total counts such messages; please report this line"
    );
}
