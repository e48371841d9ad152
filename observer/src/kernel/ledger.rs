//! Ledgers: read, added up and subtracted.

use observer_ebpf::abi::{Direction, Ledger, Loss};

use super::mapping::Mapping;
use crate::flow::InterfaceNumber;

/// The ledgers of all interfaces.
#[derive(Debug)]
pub struct Ledgers {
    mapping: Mapping<Ledger>,
    cpus: usize,
}

// SAFETY: they are only read here, by volatile accesses.
unsafe impl Sync for Ledgers {}

impl Ledgers {
    pub(super) const fn new(mapping: Mapping<Ledger>, cpus: usize) -> Self {
        Self { mapping, cpus }
    }

    /// The sums over all CPUs of what crossed an interface, by direction.
    pub fn of(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        Direction::ALL.map(|direction| {
            let first = (usize::from(interface.get()) * 2 + direction as usize) * self.cpus;
            (first..first + self.cpus)
                .map(|index| self.mapping.read(index))
                .fold(Ledger::default(), |total, ledger| sum(&total, &ledger))
        })
    }
}

impl Ledgers {
    /// Frames that crossed an interface, both ways together: a small part of [`of`](Self::of), to see whether there were
    /// any.
    pub fn frames(&self, interface: InterfaceNumber) -> u64 {
        const { assert!(std::mem::offset_of!(Ledger, frames) == 0) };
        let rows = Direction::ALL.len() * self.cpus;
        let first = usize::from(interface.get()) * rows;
        (first..first + rows).map(|index| self.mapping.read_first(index)).fold(0, u64::wrapping_add)
    }
}

/// Both together: CPUs of one interface and direction.
pub fn sum(a: &Ledger, b: &Ledger) -> Ledger {
    combine(a, b, u64::wrapping_add)
}

/// What a ledger has grown by. Wraps with the counters.
pub fn grown(now: &Ledger, before: &Ledger) -> Ledger {
    combine(now, before, u64::wrapping_sub)
}

/// All losses, of all reasons.
pub fn lost(ledgers: &[Ledger]) -> Loss {
    let all = ledgers.iter().flat_map(|ledger| ledger.lost);
    all.fold(Loss::default(), |sum, loss| Loss {
        packets: sum.packets + loss.packets,
        bytes: sum.bytes + loss.bytes,
    })
}

fn combine(a: &Ledger, b: &Ledger, with: fn(u64, u64) -> u64) -> Ledger {
    let loss = |a: Loss, b: Loss| Loss { packets: with(a.packets, b.packets), bytes: with(a.bytes, b.bytes) };
    Ledger {
        frames: with(a.frames, b.frames),
        frame_bytes: with(a.frame_bytes, b.frame_bytes),
        packets: with(a.packets, b.packets),
        bytes: with(a.bytes, b.bytes),
        lost: std::array::from_fn(|reason| loss(a.lost[reason], b.lost[reason])),
        non_ip: std::array::from_fn(|kind| with(a.non_ip[kind], b.non_ip[kind])),
        notes: std::array::from_fn(|note| with(a.notes[note], b.notes[note])),
        copied: with(a.copied, b.copied),
        spilled: with(a.spilled, b.spilled),
        entries_of_generation: 0,
        stopped: loss(a.stopped, b.stopped),
    }
}
