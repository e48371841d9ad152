//! Offsets of the kernel structures that the drops program reads.

use observer_ebpf::abi::KernelLayout;

use crate::kernel::btf::{Btf, BtfError};

/// Tracepoint of the drops program.
pub(super) const TRACEPOINT: &str = "kfree_skb";

/// Offsets of kernel structures, and the shape of the tracepoint.
#[derive(Debug)]
pub(in crate::kernel) struct KernelOffsets {
    pub(in crate::kernel) layout: KernelLayout,
    /// Number of arguments of the tracepoint. Later kernels have more of them.
    pub(in crate::kernel) arguments: u32,
}

impl KernelOffsets {
    /// Reads the offsets from the kernel's BTF.
    pub(super) fn read(btf: &Btf) -> Result<Self, BtfError> {
        let missing = |name: &str| BtfError::Missing(name.into());
        let arguments = btf.tracepoint(TRACEPOINT)?;
        let skb = arguments.first().and_then(|buffer| btf.target(*buffer));
        let skb = skb.ok_or_else(|| missing("buffer in the tracepoint kfree_skb"))?;
        let behind = |of, path: &str| {
            let member = btf.member(of, path)?;
            let target = btf.target(member.of).ok_or_else(|| missing(path))?;
            Ok::<_, BtfError>((member.offset, target))
        };
        let (skb_dev, device) = behind(skb, "dev")?;
        let (skb_sk, socket) = behind(skb, "sk")?;
        let (dev_net, net) = behind(device, "nd_net.net")?;
        let shared = btf.structure("skb_shared_info")?;
        let route = btf.structure("dst_entry")?;
        let at = |of, path: &str| btf.member(of, path).map(|member| member.offset);
        let cb = at(skb, "cb")?;
        let layout = KernelLayout {
            skb_dev,
            skb_sk,
            skb_iif: at(skb, "skb_iif")?,
            skb_dst: at(skb, "_skb_refdst")?,
            skb_len: at(skb, "len")?,
            skb_data_len: at(skb, "data_len")?,
            skb_head: at(skb, "head")?,
            skb_data: at(skb, "data")?,
            skb_end: at(skb, "end")?,
            skb_network_header: at(skb, "network_header")?,
            skb_protocol: at(skb, "protocol")?,
            skb_fragment: cb + at(btf.structure("inet_skb_parm")?, "frag_max_size")?,
            // Missing if the kernel has no IPv6 or has it as a module.
            skb_fragment6: btf
                .structure("inet6_skb_parm")
                .and_then(|parm| at(parm, "frag_max_size"))
                .map_or(cb, |offset| cb + offset),
            shared_gso_size: at(shared, "gso_size")?,
            shared_gso_segs: at(shared, "gso_segs")?,
            dev_ifindex: at(device, "ifindex")?,
            dev_mtu: at(device, "mtu")?,
            dev_net,
            net_inum: at(net, "ns.inum")?,
            dst_dev: at(route, "dev")?,
            sock_net: at(socket, "__sk_common.skc_net.net")?,
            sock_family: at(socket, "__sk_common.skc_family")?,
            sock_filter: at(socket, "sk_filter")?,
        };
        Ok(Self { layout, arguments: arguments.len() as u32 })
    }
}
