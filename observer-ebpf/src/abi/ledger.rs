/// Reasons why packets of an interface are in no record.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The flow's set in the cache and the spill ring were both full; the counts are those of the
    /// evicted flow.
    TableFull = 0,
    /// The frame ends inside the IP header.
    IpTruncated = 1,
    /// The version in the IP header contradicts the EtherType.
    IpVersion = 2,
    /// An IPv4 header length below 20 bytes.
    IpHeaderLength = 3,
    /// A length in the IP header that is shorter than the header, or longer than the frame.
    IpTotalLength = 4,
    /// A map lookup failed that must not fail: a bug in the programs or their loader.
    Internal = 5,
    /// Dropped by host policy before the hook, and not in the table of drops: it was full, or the
    /// headers were unreadable.
    DropUnbooked = 6,
}

impl LossReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::TableFull,
        Self::IpTruncated,
        Self::IpVersion,
        Self::IpHeaderLength,
        Self::IpTotalLength,
        Self::Internal,
        Self::DropUnbooked,
    ];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TableFull => "table_full",
            Self::IpTruncated => "ip_truncated",
            Self::IpVersion => "ip_version",
            Self::IpHeaderLength => "ip_header_length",
            Self::IpTotalLength => "ip_total_length",
            Self::Internal => "internal",
            Self::DropUnbooked => "drop_unbooked",
        }
    }
}

/// Frames without an IP packet. They are only counted, because VPC Flow Logs record IP flows.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NonIpKind {
    /// EtherType 0x0806.
    Arp = 0,
    /// Any other EtherType, or an IEEE 802.3 length.
    Other = 1,
    /// More VLAN tags than the parser follows.
    VlanDepth = 2,
    /// The frame ends inside its link header or a VLAN tag.
    Short = 3,
}

impl NonIpKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Arp, Self::Other, Self::VlanDepth, Self::Short];

    /// The value of the label `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::Other => "other",
            Self::VlanDepth => "vlan_depth",
            Self::Short => "short",
        }
    }
}

/// Problems of packets that are recorded nevertheless.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Note {
    /// The packet ends inside its transport header: ports are 0.
    TransportTruncated = 0,
    /// The packet ends inside its IPv6 extension headers: the protocol is the last one named, ports
    /// are 0.
    ExtensionTruncated = 1,
    /// More IPv6 extension headers than the parser follows: the protocol is the last one named,
    /// ports are 0.
    ExtensionLimit = 2,
    /// A later fragment whose first fragment was not seen: ports are 0.
    LaterFragment = 3,
    /// A super-packet in a tunnel with unreadable inner headers: they are counted in one segment
    /// only.
    TunnelUnread = 4,
}

impl Note {
    /// All notes, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::TransportTruncated,
        Self::ExtensionTruncated,
        Self::ExtensionLimit,
        Self::LaterFragment,
        Self::TunnelUnread,
    ];

    /// The value of the label `note`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TransportTruncated => "transport_truncated",
            Self::ExtensionTruncated => "extension_truncated",
            Self::ExtensionLimit => "extension_limit",
            Self::LaterFragment => "later_fragment",
            Self::TunnelUnread => "tunnel_unread",
        }
    }
}

/// Packets and bytes that are in no record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of layer 3; with an invalid IP header, bytes of the frame behind its link header.
    pub bytes: u64,
}

/// Counters of one interface, direction and CPU since the program was loaded.
///
/// Monotone and never reset: readers take differences. Only its own CPU writes it, with bottom
/// halves off, except the fields of the drops program (`stopped`, and losses for
/// [`LossReason::DropUnbooked`]), which are atomic. Summed over all CPUs, once drained: `packets` +
/// `stopped` = packets in records + `lost`, and the same for bytes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Socket buffers; a GSO/GRO super-packet is one. Equals the interface's own packet counter.
    pub frames: u64,
    /// Their lengths with link headers. Equals a veth's byte counter.
    pub frame_bytes: u64,
    /// IP packets as on the wire, recorded or lost.
    pub packets: u64,
    /// Their bytes of layer 3.
    pub bytes: u64,
    /// Losses by [`LossReason`].
    pub lost: [Loss; LossReason::ALL.len()],
    /// Frames by [`NonIpKind`].
    pub non_ip: [u64; NonIpKind::ALL.len()],
    /// Packets by [`Note`].
    pub notes: [u64; Note::ALL.len()],
    /// Frames whose headers were copied for reading: not linear, not plain, or super-packets.
    pub copied: u64,
    /// Evicted entries that went to the spill ring.
    pub spilled: u64,
    /// Entries made in the cache in one generation: see [`Ledger::entries`]. Used by the programs,
    /// and not a sum.
    pub entries_of_generation: u64,
    /// IP packets that host policy dropped before the hook, recorded or lost. `packets` does not
    /// include them.
    pub stopped: Loss,
}

const _: () = assert!(size_of::<Ledger>() == 256);
const _: () = assert!(
    size_of::<Ledger>()
        == 8 * (4 + 2 * LossReason::ALL.len() + NonIpKind::ALL.len() + Note::ALL.len() + 2 + 1 + 2)
);

impl Ledger {
    const GENERATION_SHIFT: u32 = 32;

    /// The sum of two ledgers, such as those of two CPUs.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, u64::wrapping_add)
    }

    /// The difference from an earlier reading. Wraps with the counters.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        self.combined(before, u64::wrapping_sub)
    }

    fn combined(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        let loss = |a: Loss, b: Loss| Loss {
            packets: with(a.packets, b.packets),
            bytes: with(a.bytes, b.bytes),
        };
        Self {
            frames: with(self.frames, other.frames),
            frame_bytes: with(self.frame_bytes, other.frame_bytes),
            packets: with(self.packets, other.packets),
            bytes: with(self.bytes, other.bytes),
            lost: core::array::from_fn(|reason| loss(self.lost[reason], other.lost[reason])),
            non_ip: core::array::from_fn(|kind| with(self.non_ip[kind], other.non_ip[kind])),
            notes: core::array::from_fn(|note| with(self.notes[note], other.notes[note])),
            copied: with(self.copied, other.copied),
            spilled: with(self.spilled, other.spilled),
            entries_of_generation: 0,
            stopped: loss(self.stopped, other.stopped),
        }
    }

    /// Counts an entry made in this generation, which is identified by its low bits.
    #[inline(always)]
    pub const fn add_entry(&mut self, generation: u8) {
        self.entries_of_generation =
            (generation as u64) << Self::GENERATION_SHIFT | (self.entries(generation) as u64 + 1);
    }

    /// Entries made in this generation.
    #[inline(always)]
    pub const fn entries(&self, generation: u8) -> u32 {
        if self.entries_of_generation >> Self::GENERATION_SHIFT == generation as u64 {
            self.entries_of_generation as u32
        } else {
            0
        }
    }
}
