//! The flow cache: per CPU, set-associative, in two halves.
//!
//! A row (one CPU's part of one half) has one writer, which runs with bottom halves off. The daemon
//! reads and clears a row only when no program can be running on it. So there are no atomics and no
//! locks.
//!
//! Interfaces share the rows and the ring. The last part of the ring is reserved for interfaces
//! that have made no more entries than their share, so that a noisy interface costs others no
//! records: entries that it evicts still have room.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
};
use observer_ebpf::abi::{Clock, FlowKey, FlowSet, FlowSlot, Ledger, LossReason, WAYS};

use super::{
    clock::now,
    ledger::ledger_index,
    maps::{CONTROL, FLOWS, LEDGER, SPILL, USED},
    settings::{RING_PRESSED, SETS, clock_is, hash},
};

/// Packets, bytes and flags that one packet adds to its flow.
#[derive(Clone, Copy)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) packets_and_flags: u64,
}

/// The row of one CPU in one half.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) number: u32,
    /// Number of its sets in use.
    pub(super) sets: u32,
}

const WORDS: usize = size_of::<FlowSlot>() / 8;

/// Adds to the flow `key` in `row`; returns true if it made an entry. `None` if a map is smaller
/// than the loader claimed.
#[inline(always)]
pub(super) fn add(key: &FlowKey, count: Count, row: Row, ledger: *mut Ledger) -> Option<bool> {
    let words = core::ptr::from_ref(key).cast::<u64>();
    // SAFETY: the key is that many words long.
    let hash = hash(|word| unsafe { *words.add(word) });
    // The upper half of the product maps the hash to a set without a division.
    let set = (((hash >> 32) * u64::from(row.sets)) >> 32) as u32;
    let slots: *mut FlowSet = FLOWS.get_ptr_mut(row.number * SETS.load() + set)?;
    let now = now();

    // The first pass only compares: searching for a free slot at the same time costs each hit 8 ns.
    for way in 0..WAYS {
        // SAFETY: a map value; `way` is within it.
        let slot = unsafe { &mut (*slots)[way] };
        if same(key, &slot.key) {
            slot.bytes += count.bytes;
            let (flags, packets) = split(count.packets_and_flags);
            slot.packets_and_flags = (slot.packets_and_flags + packets) | flags;
            touch(slot, now);
            return Some(false);
        }
    }
    insert(key, count, slots, Place { row: row.number, set, hash, now }, ledger).map(|()| true)
}

struct Place {
    row: u32,
    set: u32,
    hash: u64,
    now: u32,
}

/// Handles a miss: takes a free slot, or else one chosen by the hash, whose flow goes to the spill
/// ring.
///
/// Evicting the flow with the fewest packets would let old entries starve new ones, each evicted by
/// the next.
#[inline(always)]
fn insert(
    key: &FlowKey,
    count: Count,
    slots: *mut FlowSet,
    place: Place,
    ledger: *mut Ledger,
) -> Option<()> {
    let mut chosen = None;
    for way in 0..WAYS {
        // SAFETY: as in `add`.
        if unsafe { (*slots)[way].packets_and_flags } == 0 {
            chosen = Some(way);
            break;
        }
    }
    let way = match chosen {
        Some(way) => {
            let word = USED.get_ptr_mut(place.row * (SETS.load() / 64) + place.set / 64)?;
            // SAFETY: a map value of this row.
            unsafe { *word |= 1 << (place.set % 64) };
            way
        }
        None => {
            let way = (place.hash >> 24) as usize % WAYS;
            // SAFETY: `way` is within the set.
            spill(unsafe { &(*slots)[way] }, ledger);
            way
        }
    };
    // SAFETY: as above.
    let slot = unsafe { &mut (*slots)[way] };
    let (to, from) = ((&raw mut slot.key).cast::<u64>(), core::ptr::from_ref(key).cast::<u64>());
    for word in 0..FlowKey::WORDS {
        // SAFETY: both are that many words long and aligned.
        unsafe { *to.add(word) = *from.add(word) };
    }
    slot.bytes = count.bytes;
    slot.packets_and_flags = count.packets_and_flags;
    slot.first = place.now;
    slot.last = place.now;
    // SAFETY: the account of this CPU, which nobody else writes now.
    unsafe { (*ledger).add_entry(key.generation()) };
    Some(())
}

/// Sends an entry to the daemon. If the ring is full, its counts become a loss of its own
/// interface.
#[inline(always)]
fn spill(slot: &FlowSlot, ledger: *mut Ledger) {
    let is_pressed = SPILL.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(RING_PRESSED.load());
    if is_pressed && has_had_its_share(slot) {
        return lose(slot);
    }
    let Some(mut entry) = SPILL.reserve::<[u64; WORDS]>(0) else { return lose(slot) };
    let (to, from) = (entry.as_mut_ptr().cast::<u64>(), core::ptr::from_ref(slot).cast::<u64>());
    for word in 0..WORDS {
        // SAFETY: both are that many words long and aligned.
        unsafe { *to.add(word) = *from.add(word) };
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    // SAFETY: the account of this CPU, which nobody else writes now.
    unsafe { (*ledger).spilled += 1 };
}

fn lose(slot: &FlowSlot) {
    if let Some(ledger) = ledger_of(slot) {
        // SAFETY: the account of this CPU, which nobody else writes now.
        let lost = unsafe { &mut (*ledger).lost[LossReason::TableFull as usize] };
        lost.packets += slot.packets();
        lost.bytes += slot.bytes;
    }
}

fn has_had_its_share(slot: &FlowSlot) -> bool {
    match (ledger_of(slot), CONTROL.get(0)) {
        // SAFETY: a map value.
        (Some(ledger), Some(control)) => unsafe {
            (*ledger).entries(slot.key.generation()) > control.share
        },
        _ => false,
    }
}

/// This CPU's ledger of the interface and direction of an entry.
#[inline(always)]
fn ledger_of(slot: &FlowSlot) -> Option<*mut Ledger> {
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    LEDGER.get_ptr_mut(ledger_index(slot.key.interface, slot.key.direction(), cpu))
}

/// Compares the word with ports, protocol, direction and interface first, because it differs most
/// often.
#[inline(always)]
fn same(a: &FlowKey, b: &FlowKey) -> bool {
    let (a, b) = (core::ptr::from_ref(a).cast::<u64>(), core::ptr::from_ref(b).cast::<u64>());
    // SAFETY: both are five words long.
    unsafe {
        *a.add(4) == *b.add(4)
            && ((*a ^ *b)
                | (*a.add(1) ^ *b.add(1))
                | (*a.add(2) ^ *b.add(2))
                | (*a.add(3) ^ *b.add(3)))
                == 0
    }
}

#[inline(always)]
fn split(packets_and_flags: u64) -> (u64, u64) {
    let packets = packets_and_flags & ((1 << FlowSlot::FLAGS_SHIFT) - 1);
    (packets_and_flags ^ packets, packets)
}

/// Updates the times for a packet. The kernel's clocks do not go back; packets of a capture may be
/// out of order.
#[inline(always)]
fn touch(slot: &mut FlowSlot, now: u32) {
    if !clock_is(Clock::Replay) {
        slot.last = now;
    } else if (now.wrapping_sub(slot.first) as i32) < 0 {
        slot.first = now;
    } else if (now.wrapping_sub(slot.last) as i32) > 0 {
        slot.last = now;
    }
}
