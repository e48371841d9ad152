//! The maps. Sizes here are placeholders: the loader sets `max_entries` from `--flow-memory` and
//! the number of CPUs.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
};
use observer_ebpf::abi::{
    Control, DropCount, DropCountKey, DropKey, DropSlot, DropState, FRAGMENT_SETS, FlowKey,
    FlowSet, Fragments, Ledger, Replay, WatchKey,
};

/// `BPF_F_MMAPABLE` (Linux 5.5): the daemon reads the map without system calls.
const MMAPABLE: u32 = 1 << 10;

#[map]
pub(super) static CONTROL: Array<Control> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(super) static FLOWS: Array<FlowSet> = Array::with_max_entries(64, MMAPABLE);
#[map]
pub(super) static USED: Array<u64> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(super) static LEDGER: Array<Ledger> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(super) static SPILL: RingBuf = RingBuf::with_byte_size(4096, 0);
#[map]
pub(super) static FRAGMENTS: Array<Fragments> = Array::with_max_entries(FRAGMENT_SETS, 0);
#[map]
pub(super) static REPLAY: Array<Replay> = Array::with_max_entries(1, MMAPABLE);
#[map]
pub(super) static HEADERS: PerCpuArray<Headers> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(super) static UNUSUAL: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub(super) static SEGMENTS: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub(super) static UNUSUAL_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub(super) static UNUSUAL_XDP_FRAGS: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
pub(super) static OWNERS: HashMap<FlowKey, u64> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static WATCHED: HashMap<WatchKey, u32> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static DROPS_EVEN: HashMap<DropKey, DropSlot> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static DROPS_ODD: HashMap<DropKey, DropSlot> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static UNDELIVERED_EVEN: HashMap<DropKey, DropSlot> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static UNDELIVERED_ODD: HashMap<DropKey, DropSlot> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static DROP_COUNTS: HashMap<DropCountKey, DropCount> = HashMap::with_max_entries(1, 0);
#[map]
pub(super) static DROP_STATE: Array<DropState> = Array::with_max_entries(1, MMAPABLE);

/// Buffer for the headers of a packet that cannot be read in place.
#[repr(C)]
pub(super) struct Headers {
    /// The first bytes of the packet, followed by the header that was read last beyond them.
    pub(super) bytes: [u8; NEAR + HEADER_LEN],
    /// A value stored here has no history for the verifier.
    pub(super) forgotten: u64,
    pub(super) origin: Origin,
}

/// Origin of a packet: the differences between interface programs, for the program that they share.
#[repr(C)]
pub(super) struct Origin {
    /// See [`owners::of`](super::owners::of).
    pub(super) owner: u64,
    /// See [`LINK_HEADER`](super::settings::LINK_HEADER).
    pub(super) link_header: u32,
    pub(super) interface: u16,
    /// A [`Direction`](observer_ebpf::abi::Direction).
    pub(super) direction: u16,
}

/// Bytes that are copied at once. Nearly all packets have their headers within them.
pub(super) const NEAR: usize = 128;
/// Length of the longest header that is read at once: IPv6.
pub(super) const HEADER_LEN: usize = 40;
