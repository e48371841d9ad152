//! Names shared by both sides: maps, programs, and constants that the loader sets.

/// `Array<Control>` of one element. Daemon writes, programs read.
pub const CONTROL: &str = "CONTROL";
/// `Array<FlowSet>`: halves × CPUs × sets. Programs write the active half, the daemon reads and
/// clears the other.
pub const FLOWS: &str = "FLOWS";
/// `Array<u64>`: a bit for each non-empty set of [`FLOWS`]. Written and cleared like it.
pub const USED: &str = "USED";
/// `Array<Ledger>`: interfaces × directions × CPUs. Programs write, the daemon reads.
pub const LEDGER: &str = "LEDGER";
/// Ring buffer of [`FlowSlot`](super::FlowSlot): evicted entries.
pub const SPILL: &str = "SPILL";
/// Per-CPU array of one element: an interface program's arguments for its [`Continuation`], and a
/// buffer for the headers of a packet. Valid during one packet.
pub const HEADERS: &str = "HEADERS";
/// `Array<Fragments>`: ports of recent first fragments. Used by the programs only.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// `Array<Replay>` of one element. A replay writes, its programs read.
pub const REPLAY: &str = "REPLAY";
/// `HashMap<FlowKey, u64>`: the control group (version 2) that sends a flow on a shared interface.
/// Programs write when they make an entry of [`FLOWS`], the daemon reads and clears.
pub const OWNERS: &str = "OWNERS";
/// `HashMap<WatchKey, u32>`: numbers of the interfaces whose drops are counted, 0 for a namespace
/// with several. The daemon writes, the drops program reads.
pub const WATCHED: &str = "WATCHED";
/// Two `HashMap<DropKey, DropSlot>`, one for each half of [`FLOWS`]. The drops program writes the
/// active half, the daemon reads and clears the other.
pub const DROPS: [&str; 2] = ["DROPS_EVEN", "DROPS_ODD"];
/// The same for drops without a policy. Separate maps, so that a storm of them cannot fill those of
/// rejected flows.
pub const UNDELIVERED: [&str; 2] = ["UNDELIVERED_EVEN", "UNDELIVERED_ODD"];
/// `HashMap<DropCountKey, DropCount>`: monotone. The drops program writes; the daemon reads, and
/// deletes entries of removed interfaces.
pub const DROP_COUNTS: &str = "DROP_COUNTS";
/// `Array<DropState>` of one element.
pub const DROP_STATE: &str = "DROP_STATE";
/// Ring buffer of diagnostics, laid out by aya-log.
pub const LOGS: &str = "AYA_LOGS";

/// A program that all interfaces share, and the program array of one element through which
/// interface programs call it.
#[derive(Clone, Copy, Debug)]
pub struct Continuation {
    /// Name of the array. The loader fills it.
    pub array: &'static str,
    /// Name of the program.
    pub program: &'static str,
}

/// TC: packets that are not plain.
pub const UNUSUAL: Continuation = Continuation { array: "UNUSUAL", program: "observe_unusual" };
/// TC: the segments of a super-packet that generic XDP counted as one packet.
pub const SEGMENTS: Continuation = Continuation { array: "SEGMENTS", program: "add_segments" };
/// XDP: packets that are not plain.
pub const UNUSUAL_XDP: Continuation =
    Continuation { array: "UNUSUAL_XDP", program: "observe_unusual_xdp" };
/// XDP: packets in several buffers that are not plain.
pub const UNUSUAL_XDP_FRAGS: Continuation =
    Continuation { array: "UNUSUAL_XDP_FRAGS", program: "observe_unusual_xdp_frags" };

/// TC program for packets towards the task.
pub const OBSERVE_INGRESS: &str = "observe_ingress";
/// TC program for packets from the task.
pub const OBSERVE_EGRESS: &str = "observe_egress";
/// XDP program for packets towards the task.
pub const OBSERVE_XDP: &str = "observe_xdp";
/// XDP program for packets towards the task in several buffers (Linux 5.18).
pub const OBSERVE_XDP_FRAGS: &str = "observe_xdp_frags";
/// TC program behind XDP, for packets towards the task that XDP did not count.
pub const OBSERVE_BEHIND_XDP: &str = "observe_behind_xdp";
/// TC program that returns the time in ticks, for `BPF_PROG_TEST_RUN`.
pub const READ_TICKS: &str = "read_ticks";
/// TC program that does nothing: the baseline of the benchmarks.
pub const EMPTY: &str = "empty";
/// `tp_btf` program for every buffer that the kernel drops.
pub const OBSERVE_DROP: &str = "observe_drop";

/// Benchmark program: the packet path with varying flows.
pub const VARIED_CACHE: &str = "varied_cache";
/// Benchmark program: the packet path with a hash map instead of the cache.
pub const VARIED_HASH: &str = "varied_hash";
/// Benchmark programs: the packet path up to each step, in order.
pub const STEPS: [&str; 3] = ["step_parse", "step_ledger", "step_clock"];
/// `PerCpuHashMap` of [`VARIED_HASH`].
pub const TWIN: &str = "TWIN";
/// `u32`: mask of the flow number in these two; a power of two minus 1.
pub const FLOW_MASK: &str = "FLOW_MASK";

/// `u16`: number of the interface of this load, from 1. In a replay, each packet has its own.
pub const INTERFACE: &str = "INTERFACE";
/// `u32`: number of CPUs in the maps.
pub const CPUS: &str = "CPUS";
/// `u32`: sets per CPU and half; a multiple of 64.
pub const SETS: &str = "SETS";
/// `[u64; FACTORS]`: secret, odd factors of the [`hash`](crate::hash), random for each start.
pub const HASH_FACTORS: &str = "HASH_FACTORS";
/// `u32`: bytes in the spill ring above which only interfaces within their share may add entries.
pub const RING_PRESSED: &str = "RING_PRESSED";
/// `u32`: a [`Clock`](super::Clock).
pub const CLOCK: &str = "CLOCK";
/// `u32`: time for which the ports of a first IPv4 fragment are remembered, in ticks. IPv6 has
/// twice the time.
pub const FRAGMENT_TICKS: &str = "FRAGMENT_TICKS";
/// `u32`: length of the link header: 14 for Ethernet, 0 for interfaces that carry bare IP.
pub const LINK_HEADER: &str = "LINK_HEADER";
/// `u32`: not 0 for an interface that several tasks share, whose flows are entered in [`OWNERS`].
pub const SHARED: &str = "SHARED";
/// [`KernelLayout`](super::KernelLayout) as words.
pub const LAYOUT: &str = "LAYOUT";
/// [`DropReasons`](super::DropReasons) as words.
pub const REASONS: &str = "REASONS";
/// `[u8; DROP_VERDICTS]`: a [`Verdict`](super::Verdict) for each of the kernel's reasons, by its
/// number.
pub const VERDICTS: &str = "VERDICTS";
/// `u32`: number of arguments of the tracepoint `kfree_skb`: 2 without a reason, 3 with one, 4 with
/// the receiving socket.
pub const DROP_ARGUMENTS: &str = "DROP_ARGUMENTS";
/// `u32`: mark by which the TC program behind XDP recognises packets that XDP has counted; 0
/// without XDP.
pub const XDP_MARK: &str = "XDP_MARK";
/// `u32`: not 0 if XDP sees super-packets without their segments: in generic mode.
pub const XDP_GENERIC: &str = "XDP_GENERIC";
/// `u8`: level of diagnostics, 0 for none. The verifier removes code for higher levels.
pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
