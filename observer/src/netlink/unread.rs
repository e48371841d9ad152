//! Messages of the kernel that could not be understood, counted for the whole process.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// Of which the message tells: the values of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interface.
    Link,
    /// An address of an interface.
    Address,
    /// The number of a namespace.
    Netns,
    /// A qdisc or a filter.
    Hook,
    /// A datagram with a length that cannot be right.
    Datagram,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Link, Self::Address, Self::Netns, Self::Hook, Self::Datagram];

    /// The value of the label `kind`.
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

/// How many there were since the process began.
pub fn unread(kind: Kind) -> u64 {
    COUNTS[kind as usize].load(Ordering::Relaxed)
}

/// Counts one, and logs the first of each kind with its bytes.
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
        "a netlink message of the kernel could not be understood in full: \
         observer_netlink_unread_total counts them; please report this line"
    );
}
