//! Sums and differences of ledgers.

use observer_ebpf::abi::{Ledger, Loss};

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
        reserved: [0; 1],
    }
}
