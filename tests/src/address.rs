//! Addresses of interfaces: IP versions, MAC addresses, and the pairs of addresses of a link's two
//! ends.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use anyhow::{Context as _, Result};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both versions.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Length of its header without options.
    pub const fn header(self) -> u64 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The value of the field `type` in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// A MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self(bytes.with_context(|| format!("{text:?} is no link address"))?))
    }
}

impl Mac {
    /// A MAC address that no other interface of this run has.
    pub fn fresh() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let [a, b, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // Locally administered, with the prefix of ENIs.
        Self([0x06, 0x39, a, b, c, d])
    }
}

/// The addresses of the two ends of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Addresses of the task.
    pub inside: (Ipv4Addr, Ipv6Addr),
    /// Addresses of the other end.
    pub outside: (Ipv4Addr, Ipv6Addr),
    /// Name of both interfaces.
    pub name: &'static str,
    /// True if IPv6 is enabled. Without it, a new interface sends nothing by itself.
    pub ipv6: bool,
}

impl Default for Addresses {
    fn default() -> Self {
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 4, 0, 0, 0, last);
        Self {
            inside: (Ipv4Addr::new(10, 0, 4, 128), v6(0x80)),
            outside: (Ipv4Addr::new(10, 0, 4, 9), v6(9)),
            name: "eth0",
            ipv6: true,
        }
    }
}
