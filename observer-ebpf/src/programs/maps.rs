//! The maps. Sizes given here are placeholders: the loader sets `max_entries` from `--flow-memory` and the CPUs.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use observer_ebpf::abi::{Control, FlowSet, Ledger};

/// `BPF_F_MMAPABLE` (Linux 5.5): the daemon reads without a system call.
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
pub(super) static HEADERS: PerCpuArray<[u8; HEADERS_LEN]> = PerCpuArray::with_max_entries(1, 0);

/// Headers that are read of a packet that is not linear: Ethernet, two tags, IPv6 and a long chain behind it.
pub(super) const HEADERS_LEN: usize = 256;
