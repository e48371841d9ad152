use super::FlowKey;

/// Where a buffer was when the kernel dropped it: the key of [`WATCHED`](super::names::WATCHED).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct WatchKey {
    /// Inode of the network namespace.
    pub netns: u32,
    /// Index of the interface; 0 for the namespace as a whole, where a buffer had no interface yet.
    pub ifindex: u32,
}

/// Buffers that the kernel dropped, by where and why: the key of [`DROP_COUNTS`](super::names::DROP_COUNTS).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DropCountKey {
    /// The interface's number; 0 where only the namespace is known.
    pub interface: u16,
    /// A [`Direction`](super::Direction).
    pub direction: u8,
    /// Makes the size a multiple of 4, by name. 0.
    pub reserved: u8,
    /// The kernel's number; of a subsystem's own reasons the subsystem alone; [`UNKNOWN_REASON`].
    pub reason: u32,
}

/// How many they were. Monotone, and added to by atomics: programs of several CPUs share an entry.
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
    /// Which flow, in the form that the flow cache has it.
    pub flow: FlowKey,
    /// The kernel's number of the reason; 0 where it was no policy.
    pub reason: u32,
    /// The eight TCP flags of the packets, 0 where it was no policy. In the key, because old kernels have no atomic "or".
    pub tcp_flags: u32,
}

/// What was dropped of it. Added to by atomics.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropSlot {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of layer 3.
    pub bytes: u64,
    /// When the first one was dropped, in ticks of [`TICK_SHIFT`](super::TICK_SHIFT).
    pub first: u32,
    /// When the last one was, likewise; written without order, so it may lie before `first`.
    pub last: u32,
}

/// What the drops program tells the daemon beside its maps, in an mmap-able array of one element.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropState {
    /// Not 0 where that half of [`DROPS`](super::names::DROPS) or [`UNDELIVERED`](super::names::UNDELIVERED) holds
    /// anything. The daemon sets it back.
    pub used: [u64; 2],
    /// Not 0 where [`DROP_COUNTS`](super::names::DROP_COUNTS) has changed. The daemon sets it back.
    pub counted: u64,
    /// Packets for which that map had no room.
    pub uncounted: u64,
    /// Packets that policy dropped behind the hook, for whose flow the table of drops had no room.
    pub table_full: u64,
    /// Packets that policy dropped behind the hook, whose headers could not be read.
    pub unread: u64,
    /// Packets that were not delivered, for whose flow the table of those had no room.
    pub undelivered_full: u64,
}

/// What a reason says of an incoming packet: did it fail to reach its receiver? The table
/// [`VERDICTS`](super::names::VERDICTS) holds one for each of the kernel's numbers.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did not fail, or that cannot be told.
    Delivered = 0,
    /// It did.
    Undelivered = 1,
    /// It did, unless there is nothing in it: a TCP segment without SYN and payload, as those at the end of a
    /// connection, or an answer to a ping, which raw sockets have got already.
    UnlessEmpty = 2,
    /// It did, unless it is for a group: then this host has not joined it.
    UnlessGroup = 3,
}

/// Reasons that have a verdict: the kernel's core has some 130, numbered from 0.
pub const DROP_VERDICTS: usize = 256;

/// The reason where the kernel gives none (before Linux 5.17).
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
            /// How many words it has.
            pub const WORDS: usize = size_of::<Self>() / size_of::<u32>();

            /// The same, as the loader sets it.
            pub const fn words(self) -> [u32; Self::WORDS] {
                [$(self.$field,)*]
            }
        }
    };
}

words! {
    /// Offsets in bytes of what the drops program reads of the kernel's structures: they differ from kernel to kernel.
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
        /// `frag_max_size` of the `inet6_skb_parm` in the same place
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
    /// The numbers of the reasons that the drops program knows, which differ likewise; [`UNKNOWN_REASON`] for one that
    /// this kernel does not have.
    DropReasons {
        /// `NETFILTER_DROP`: nftables, iptables.
        netfilter,
        /// `TC_INGRESS`: a filter on the ingress of an interface.
        tc_ingress,
        /// `TC_EGRESS`: the same on its egress.
        tc_egress,
        /// `XDP`: a program in front of TC.
        xdp,
        /// `BPF_CGROUP_EGRESS`: a program of the sender's control group.
        cgroup_egress,
        /// `SOCKET_FILTER`: a program of the receiving socket, or of its control group.
        socket_filter,
        /// `CPU_BACKLOG`: no policy; but at that place the buffer does not say that it comes in.
        cpu_backlog,
    }
}

const _: () = assert!(size_of::<WatchKey>() == 4 + 4);
const _: () = assert!(size_of::<DropCountKey>() == 2 + 1 + 1 + 4);
const _: () = assert!(size_of::<DropCount>() == 8 + 8);
const _: () = assert!(size_of::<DropKey>() == size_of::<FlowKey>() + 4 + 4);
const _: () = assert!(size_of::<DropSlot>() == 8 + 8 + 4 + 4);
const _: () = assert!(size_of::<DropState>() == 2 * 8 + 5 * 8);
