use std::{
    iter::Sum,
    ops::{Add, AddAssign, Sub, SubAssign},
};

use observer_ebpf::abi::{DropCount, Loss};
use serde::Serialize;

/// An amount of traffic: packets as on the wire, and their bytes of layer 3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets as on the wire: a super-packet of GSO or GRO counts as the packets that it stands
    /// for.
    pub packets: u64,
    /// Bytes of layer 3, IP header included.
    pub bytes: u64,
}

impl Traffic {
    /// No traffic.
    pub const NONE: Self = Self { packets: 0, bytes: 0 };

    /// Whether it is none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// What is left after taking `other` away, or none where `other` is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(other.packets),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// The second must be a part of the first.
impl Sub for Traffic {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }
}

impl SubAssign for Traffic {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::NONE, Add::add)
    }
}

impl From<Loss> for Traffic {
    fn from(Loss { packets, bytes }: Loss) -> Self {
        Self { packets, bytes }
    }
}

impl From<DropCount> for Traffic {
    fn from(DropCount { packets, bytes }: DropCount) -> Self {
        Self { packets, bytes }
    }
}
