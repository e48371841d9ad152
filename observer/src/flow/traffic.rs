use std::{
    iter::Sum,
    ops::{Add, AddAssign, Sub, SubAssign},
};

use observer_ebpf::abi::{DropCount, Loss};
use serde::Serialize;

/// Amount of traffic: packets and layer 3 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Packets as on the wire: a GSO or GRO super-packet counts as its segments.
    pub packets: u64,
    /// Layer 3 bytes, including the IP header.
    pub bytes: u64,
}

impl Traffic {
    /// No traffic.
    pub const NONE: Self = Self { packets: 0, bytes: 0 };

    /// True if there is no traffic.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Subtracts `other`. A sum is 0 if that of `other` is larger.
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

/// The right operand must be a part of the left one.
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
