use super::FlowKey;

/// Place at which the kernel dropped a buffer: the key of [`WATCHED`](super::names::WATCHED).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchKey {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Index of the interface; 0 for the whole namespace, if the buffer had no interface yet.
    pub ifindex: u32,
}

/// Dropped buffers by place and reason: the key of [`DROP_COUNTS`](super::names::DROP_COUNTS).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropCountKey {
    /// Number of the interface; 0 if only the namespace is known.
    pub interface: u16,
    /// A [`Direction`](super::Direction).
    pub direction: u8,
    /// Explicit padding to a multiple of 4, 0.
    pub reserved: u8,
    /// The kernel's drop reason; for reasons of a subsystem, the subsystem only; or
    /// [`UNKNOWN_REASON`].
    pub reason: u32,
}

/// Dropped packets of a [`DropCountKey`]. Monotone. Atomic, because programs on several CPUs share
/// an entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCount {
    /// Packets as on the wire, of any protocol.
    pub packets: u64,
    /// Their bytes from the network header on.
    pub bytes: u64,
}

/// A flow that the host dropped: the key of [`DROPS`](super::names::DROPS) and
/// [`UNDELIVERED`](super::names::UNDELIVERED).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropKey {
    /// The flow, with the same key as in the flow cache.
    pub flow: FlowKey,
    /// The kernel's drop reason; 0 without a policy.
    pub reason: u32,
    /// TCP flags of the packets; 0 without a policy. Part of the key, because old kernels have no
    /// atomic "or".
    pub tcp_flags: u32,
}

/// Dropped packets of a [`DropKey`]. Atomic.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropSlot {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of layer 3.
    pub bytes: u64,
    /// Time of the first drop, in ticks of [`TICK_SHIFT`](super::TICK_SHIFT).
    pub first: u32,
    /// Time of the last drop, in the same ticks. Written without ordering, so it may be before
    /// `first`.
    pub last: u32,
}

/// State of the drops program for the daemon, in an mmap-able array of one element.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropState {
    /// Not 0 if that half of [`DROPS`](super::names::DROPS) or
    /// [`UNDELIVERED`](super::names::UNDELIVERED) has entries. The daemon resets it.
    pub used: [u64; 2],
    /// Not 0 if [`DROP_COUNTS`](super::names::DROP_COUNTS) has changed. The daemon resets it.
    pub counted: u64,
    /// Packets that [`DROP_COUNTS`](super::names::DROP_COUNTS) had no room for.
    pub uncounted: u64,
    /// Packets dropped by policy behind the hook whose flow had no room in the table of drops.
    pub table_full: u64,
    /// Packets dropped by policy behind the hook with unreadable headers.
    pub unread: u64,
    /// Undelivered packets whose flow had no room in their table.
    pub undelivered_full: u64,
}

/// Meaning of a drop reason for an incoming packet: whether the receiver missed it. The table
/// [`VERDICTS`](super::names::VERDICTS) has one for each of the kernel's reasons.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not missed, or unknown.
    Delivered = 0,
    /// Missed.
    Undelivered = 1,
    /// Missed unless the packet is empty: a TCP segment without SYN and payload, as at the end of a
    /// connection, or an echo reply, which raw sockets have already received.
    UnlessEmpty = 2,
    /// Missed unless it is multicast, for a group that this host has not joined.
    UnlessGroup = 3,
}

/// Number of reasons with a verdict. The kernel's core has about 130, numbered from 0.
pub const DROP_VERDICTS: usize = 256;

/// The reason on kernels that report none (before Linux 5.17).
pub const UNKNOWN_REASON: u32 = u32::MAX;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u32,)*
        }

        impl $name {
            /// Size in words.
            pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();

            /// The words of this structure, as the loader sets them.
            pub const fn words(self) -> [u32; Self::WORDS] {
                [$(self.$field,)*]
            }
        }
    };
}

words! {
    /// Byte offsets of the fields of kernel structures that the drops program reads. They depend on
    /// the kernel.
    KernelLayout {
        /// `sk_buff.dev`
        skb_dev,
        /// `sk_buff.sk`
        skb_sk,
        /// `sk_buff.skb_iif`
        skb_iif,
        /// `sk_buff._skb_refdst`
        skb_dst,
        /// `sk_buff.len`
        skb_len,
        /// `sk_buff.data_len`
        skb_data_len,
        /// `sk_buff.head`
        skb_head,
        /// `sk_buff.data`
        skb_data,
        /// `sk_buff.end`
        skb_end,
        /// `sk_buff.network_header`
        skb_network_header,
        /// `sk_buff.protocol`
        skb_protocol,
        /// `frag_max_size` of the `inet_skb_parm` in `sk_buff.cb`
        skb_fragment,
        /// `frag_max_size` of the `inet6_skb_parm` in `sk_buff.cb`
        skb_fragment6,
        /// `skb_shared_info.gso_size`
        shared_gso_size,
        /// `skb_shared_info.gso_segs`
        shared_gso_segs,
        /// `net_device.ifindex`
        dev_ifindex,
        /// `net_device.mtu`
        dev_mtu,
        /// `net_device.nd_net.net`
        dev_net,
        /// `net.ns.inum`
        net_inum,
        /// `dst_entry.dev`
        dst_dev,
        /// `sock.__sk_common.skc_net.net`
        sock_net,
        /// `sock.__sk_common.skc_family`
        sock_family,
        /// `sock.sk_filter`
        sock_filter,
    }
}

words! {
    /// Numbers of the drop reasons that the drops program handles. They depend on the kernel;
    /// [`UNKNOWN_REASON`] for a missing one.
    DropReasons {
        /// `NETFILTER_DROP`: nftables, iptables.
        netfilter,
        /// `TC_INGRESS`: a filter on the ingress of an interface.
        tc_ingress,
        /// `TC_EGRESS`: a filter on the egress of an interface.
        tc_egress,
        /// `XDP`: a program in front of TC.
        xdp,
        /// `BPF_CGROUP_EGRESS`: a program of the sender's control group.
        cgroup_egress,
        /// `SOCKET_FILTER`: a program of the receiving socket, or of its control group.
        socket_filter,
        /// `CPU_BACKLOG`: not a policy, but at this place the buffer does not show that it is
        /// incoming.
        cpu_backlog,
    }
}

const _: () = assert!(size_of::<WatchKey>() == 4 + 4);
const _: () = assert!(size_of::<DropCountKey>() == 2 + 1 + 1 + 4);
const _: () = assert!(size_of::<DropCount>() == 8 + 8);
const _: () = assert!(size_of::<DropKey>() == size_of::<FlowKey>() + 4 + 4);
const _: () = assert!(size_of::<DropSlot>() == 8 + 8 + 4 + 4);
const _: () = assert!(size_of::<DropState>() == 2 * 8 + 5 * 8);
