//! Taking over the interfaces of an earlier run, whose programs are still attached.
//!
//! An interface keeps its number. Its programs are replaced in place, so that each packet is counted
//! once: by the old program into the maps of the earlier run, or by the new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{flow::InterfaceNumber, journal::LeftInterface, tasks::Observed};

/// Time for the sources to name the interfaces of an earlier run. Until then its programs count on
/// interfaces that are not chosen yet.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interfaces of an earlier run that are not taken over yet.
#[derive(Debug)]
pub(super) struct TakeOver {
    /// By the inode of the namespace and the index.
    left: BTreeMap<(u64, u32), LeftInterface>,
    /// Numbers of all accounts of the earlier run.
    numbers: BTreeSet<InterfaceNumber>,
    /// Time until which they may be taken over; `None` if the take-over has ended.
    until: Option<Instant>,
}

impl TakeOver {
    /// Interfaces to take over. `numbers` are those of all accounts of the earlier run, which include
    /// interfaces that are gone.
    pub(super) fn new(left: Vec<LeftInterface>, numbers: BTreeSet<InterfaceNumber>) -> Self {
        let left = left.into_iter().map(|it| ((it.netns, it.ifindex), it)).collect();
        Self { left, numbers, until: Some(Instant::now() + PATIENCE) }
    }

    /// Numbers of all accounts of the earlier run.
    pub(super) fn numbers(&self) -> BTreeSet<InterfaceNumber> {
        self.numbers.clone()
    }

    /// Number that the earlier run has given to an interface; `None` for another interface.
    pub(super) fn number_of(&mut self, observed: &Observed) -> Option<InterfaceNumber> {
        let place = (observed.key.netns, observed.key.ifindex);
        let mac = observed.interface.mac.map(|mac| mac.to_string()).unwrap_or_default();
        self.left.get(&place).filter(|left| *left.mac == *mac)?;
        self.left.remove(&place).map(|left| left.number)
    }

    /// Time at which the take-over ends.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.until
    }

    /// Returns the interfaces that were not taken over, if the take-over ends: all are taken over,
    /// time is up, or `now` is true. `None` if it goes on, or has ended before.
    pub(super) fn end(&mut self, now: bool) -> Option<Vec<LeftInterface>> {
        let until = self.until?;
        if !now && !self.left.is_empty() && Instant::now() < until {
            return None;
        }
        self.until = None;
        Some(std::mem::take(&mut self.left).into_values().collect())
    }
}
