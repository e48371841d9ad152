//! The names that both sides agree on: maps, programs, and the constants that the loader sets.

/// `Array<Control>` of one element. Daemon writes, programs read.
pub const CONTROL: &str = "CONTROL";
/// `Array<FlowSet>`: halves × CPUs × sets. Programs write the active half, the daemon reads and clears the other.
pub const FLOWS: &str = "FLOWS";
/// `Array<u64>`: a bit for each set of [`FLOWS`] that holds anything. Written and cleared like it.
pub const USED: &str = "USED";
/// `Array<Ledger>`: interfaces × directions × CPUs. Programs write, the daemon reads.
pub const LEDGER: &str = "LEDGER";
/// Ring buffer of [`FlowSlot`](super::FlowSlot): entries that made room for others.
pub const SPILL: &str = "SPILL";
/// Per-CPU array of one element: what the program of an interface tells its [`Continuation`], and room for the headers of
/// a packet. Used within one packet.
pub const HEADERS: &str = "HEADERS";
/// `Array<Fragments>`: ports of the first fragments that were seen last. The programs' own.
pub const FRAGMENTS: &str = "FRAGMENTS";
/// `Array<Replay>` of one element. A replay writes, its programs read.
pub const REPLAY: &str = "REPLAY";
/// `HashMap<FlowKey, u64>`: the control group (version 2) that sends a flow where tasks share an interface. Programs
/// write when an entry of [`FLOWS`] is made, the daemon reads and clears.
pub const OWNERS: &str = "OWNERS";
/// `HashMap<WatchKey, u32>`: numbers of the interfaces whose drops are counted, 0 for a namespace that has several.
/// Daemon writes, the drops program reads.
pub const WATCHED: &str = "WATCHED";
/// Two `HashMap<DropKey, DropSlot>`: a half each, as in [`FLOWS`]. The drops program writes the active half, the daemon
/// reads and clears the other.
pub const DROPS: [&str; 2] = ["DROPS_EVEN", "DROPS_ODD"];
/// The same for what no policy dropped, in a place of its own: a storm of it must not take the room of rejected flows.
pub const UNDELIVERED: [&str; 2] = ["UNDELIVERED_EVEN", "UNDELIVERED_ODD"];
/// `HashMap<DropCountKey, DropCount>`: monotone. The drops program writes, the daemon reads, and deletes what belongs to
/// an interface that is gone.
pub const DROP_COUNTS: &str = "DROP_COUNTS";
/// `Array<DropState>` of one element.
pub const DROP_STATE: &str = "DROP_STATE";
/// Ring buffer of diagnostics, laid out by aya-log.
pub const LOGS: &str = "AYA_LOGS";

/// A program that all interfaces share, and the program array of one element that leads to it from those of an
/// interface.
#[derive(Clone, Copy, Debug)]
pub struct Continuation {
    /// The name of the array. The loader fills it.
    pub array: &'static str,
    /// The name of the program.
    pub program: &'static str,
}

/// TC: packets that are not plain.
pub const UNUSUAL: Continuation = Continuation { array: "UNUSUAL", program: "observe_unusual" };
/// TC: what a super-packet stands for beyond the packet that XDP in generic mode counted.
pub const SEGMENTS: Continuation = Continuation { array: "SEGMENTS", program: "add_segments" };
/// XDP: packets that are not plain.
pub const UNUSUAL_XDP: Continuation = Continuation { array: "UNUSUAL_XDP", program: "observe_unusual_xdp" };
/// The same for packets in several buffers.
pub const UNUSUAL_XDP_FRAGS: Continuation =
    Continuation { array: "UNUSUAL_XDP_FRAGS", program: "observe_unusual_xdp_frags" };

/// TC program for packets towards the task.
pub const OBSERVE_INGRESS: &str = "observe_ingress";
/// TC program for packets from the task.
pub const OBSERVE_EGRESS: &str = "observe_egress";
/// XDP program for packets towards the task.
pub const OBSERVE_XDP: &str = "observe_xdp";
/// The same for packets in several buffers (Linux 5.18).
pub const OBSERVE_XDP_FRAGS: &str = "observe_xdp_frags";
/// TC program for what is left of packets towards the task behind XDP.
pub const OBSERVE_BEHIND_XDP: &str = "observe_behind_xdp";
/// TC program that returns the time in ticks, for `BPF_PROG_TEST_RUN`.
pub const READ_TICKS: &str = "read_ticks";
/// TC program that does nothing: the floor of the benchmarks.
pub const EMPTY: &str = "empty";
/// `tp_btf` program for every buffer that the kernel drops.
pub const OBSERVE_DROP: &str = "observe_drop";

/// Of the benchmarks' object: the real path under flows that change.
pub const VARIED_CACHE: &str = "varied_cache";
/// Of the benchmarks' object: the same with a hash map in the cache's place.
pub const VARIED_HASH: &str = "varied_hash";
/// Of the benchmarks' object: the packet path up to a step, each with those before it, in order.
pub const STEPS: [&str; 3] = ["step_parse", "step_ledger", "step_clock"];
/// `PerCpuHashMap` of [`VARIED_HASH`].
pub const TWIN: &str = "TWIN";
/// `u32`: how many flows these two make, less one; a power of two less one.
pub const FLOW_MASK: &str = "FLOW_MASK";

/// `u16`: the interface that this load is for, from 1. A replay says it with each packet.
pub const INTERFACE: &str = "INTERFACE";
/// `u32`: CPUs that the maps have room for.
pub const CPUS: &str = "CPUS";
/// `u32`: sets per CPU and half; a multiple of 64.
pub const SETS: &str = "SETS";
/// `[u64; FACTORS]`: secret, odd factors of the [`hash`](crate::hash), drawn at each start.
pub const HASH_FACTORS: &str = "HASH_FACTORS";
/// `u32`: bytes in the spill ring from which on it takes entries only of interfaces within their share.
pub const RING_PRESSED: &str = "RING_PRESSED";
/// `u32`: a [`Clock`](super::Clock).
pub const CLOCK: &str = "CLOCK";
/// `u32`: ticks for which the ports of a first fragment of IPv4 are remembered, half as many as for IPv6.
pub const FRAGMENT_TICKS: &str = "FRAGMENT_TICKS";
/// `u32`: length of the link header: 14 for Ethernet, 0 for interfaces that carry bare IP.
pub const LINK_HEADER: &str = "LINK_HEADER";
/// `u32`: not 0 for an interface that several tasks share, of whose flows [`OWNERS`] is to tell.
pub const SHARED: &str = "SHARED";
/// [`KernelLayout`](super::KernelLayout) as words.
pub const LAYOUT: &str = "LAYOUT";
/// [`DropReasons`](super::DropReasons) as words.
pub const REASONS: &str = "REASONS";
/// `[u8; DROP_VERDICTS]`: a [`Verdict`](super::Verdict) for each of the kernel's reasons, by its number.
pub const VERDICTS: &str = "VERDICTS";
/// `u32`: arguments of the tracepoint `kfree_skb`: 2 without a reason, 3 with one, 4 with the receiving socket too.
pub const DROP_ARGUMENTS: &str = "DROP_ARGUMENTS";
/// `u32`: by what the TC program behind XDP knows a packet that XDP has counted; 0 where there is none.
pub const XDP_MARK: &str = "XDP_MARK";
/// `u32`: not 0 where XDP sees super-packets, without being told of their segments: in generic mode.
pub const XDP_GENERIC: &str = "XDP_GENERIC";
/// `u8`: the level of diagnostics, 0 for none. The verifier removes what lies above it.
pub const LOG_LEVEL: &str = "AYA_LOG_LEVEL";
