//! Packets, bytes and directions.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
};

/// IP packets as on the wire with their layer 3 bytes; for frames, frames with their total length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tally {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Tally {
    /// Creates a tally.
    pub const fn new(packets: u64, bytes: u64) -> Self {
        Self { packets, bytes }
    }

    /// `packets` of `each` bytes.
    pub const fn of(packets: u64, each: u64) -> Self {
        Self { packets, bytes: packets * each }
    }
}

impl Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { packets: self.packets + other.packets, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Tally {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { packets: self.packets - other.packets, bytes: self.bytes - other.bytes }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets, {} bytes", self.packets, self.bytes)
    }
}

/// Direction, seen from the interface's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the task.
    Ingress,
    /// From the task.
    Egress,
}

impl Direction {
    /// Both directions.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// Its name in records and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Traffic of an interface, per direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossed {
    /// Towards the task.
    pub ingress: Tally,
    /// From the task.
    pub egress: Tally,
}

impl Crossed {
    /// Ingress traffic only.
    pub const fn ingress(tally: Tally) -> Self {
        Self { ingress: tally, egress: Tally::new(0, 0) }
    }

    /// Egress traffic only.
    pub const fn egress(tally: Tally) -> Self {
        Self { ingress: Tally::new(0, 0), egress: tally }
    }

    /// The traffic of one direction.
    pub const fn get(&self, direction: Direction) -> Tally {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    /// Calls `tally` for each direction.
    pub fn of(mut tally: impl FnMut(Direction) -> Tally) -> Self {
        Self { ingress: tally(Direction::Ingress), egress: tally(Direction::Egress) }
    }
}

impl Add for Crossed {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { ingress: self.ingress + other.ingress, egress: self.egress + other.egress }
    }
}

impl AddAssign for Crossed {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Crossed {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { ingress: self.ingress - other.ingress, egress: self.egress - other.egress }
    }
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in {}; out {}", self.ingress, self.egress)
    }
}
