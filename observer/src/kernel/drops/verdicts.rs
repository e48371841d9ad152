//! Verdict on each drop reason of the kernel: does it mean that an incoming packet failed to reach
//! its receiver?
//!
//! The kernel also gives reasons when it frees packets that are not lost: a segment that was
//! received before, the FIN in the queue of a closed socket, a copy for a capture. So this table
//! has a verdict on each reason of `enum skb_drop_reason` from Linux 5.17 to 7.2
//! (include/net/dropreason-core.h; include/net/dropreason.h up to Linux 6.3; include/linux/skbuff.h
//! up to Linux 5.19). The comment beside a reason names functions that use it. A reason used both
//! for losses and for harmless events, in any of these versions, counts as no loss:
//! `undelivered_packets` may omit a packet, but must not invent one. The metric
//! `observer_interface_dropped_packets_total` counts all reasons.
//!
//! The table omits reasons of policy (`DropReason`) and `CPU_BACKLOG`, which is used before the
//! hook. It also omits the reasons of subsystems (net/mac80211/drop.h, net/openvswitch/drop.h,
//! include/net/dropreason-qdisc.h), because their packets are not on their way into the network
//! stack of an observed interface.

use observer_ebpf::abi::{
    DROP_VERDICTS, Verdict,
    Verdict::{Delivered, Undelivered, UnlessEmpty, UnlessGroup},
};

/// Verdicts by name, without the prefix `SKB_DROP_REASON_`.
const VERDICTS: [(&str, Verdict); 132] = [
    // No reason is given, or the queue of a closed socket is freed, which may hold the peer's FIN
    // (inet_sock_destruct, net/ipv4/af_inet.c). Before Linux 6.6 such packets were NOT_SPECIFIED.
    ("NOT_SPECIFIED", Delivered), // kfree_skb, include/linux/skbuff.h
    ("QUEUE_PURGE", Delivered),   // skb_queue_purge, include/linux/skbuff.h
    ("SOCKET_CLOSE", Delivered),  // unix_release_sock, net/unix/af_unix.c
    // No socket for the packet.
    ("NO_SOCKET", UnlessEmpty), // tcp_v4_rcv, __udp4_lib_rcv, ping_rcv, cookie_v4_check
    ("TCP_FLAGS", UnlessEmpty), // an ACK to a listener: tcp_rcv_state_process, net/ipv4/tcp_input.c
    ("TCP_CLOSE", UnlessEmpty), // behind a reset in the backlog: tcp_rcv_state_process
    ("TCP_ABORT_ON_DATA", Undelivered), // data behind close(): tcp_rcv_state_process
    ("TCP_LISTEN_OVERFLOW", Undelivered), // tcp_check_req, net/ipv4/tcp_minisocks.c
    // No buffer space.
    ("SOCKET_RCVBUFF", Undelivered), // __udp_enqueue_schedule_skb, sock_queue_rcv_skb_reason
    ("SOCKET_BACKLOG", Undelivered), // tcp_add_backlog, net/ipv4/tcp_ipv4.c
    ("PROTO_MEM", Undelivered),      // tcp_data_queue, __udp_enqueue_schedule_skb
    ("PFMEMALLOC", Undelivered),     // sk_filter_trim_cap, net/core/filter.c
    ("NOMEM", Undelivered),          // ip_rcv_core, icmp_unreach
    ("TCP_OFO_QUEUE_PRUNE", Undelivered), // queued, then thrown away: tcp_prune_ofo_queue
    // TCP segments received before, or refused because of window or sequence numbers, as duplicates
    // and zero window probes are.
    ("TCP_OLD_DATA", Delivered), // a spurious retransmission: tcp_data_queue
    ("TCP_OFOMERGE", Delivered), // tcp_data_queue_ofo
    ("TCP_OFO_DROP", Delivered), // "data already in receive queue": tcp_ofo_queue
    ("TCP_OLD_SEQUENCE", Delivered), // keepalives: tcp_sequence
    ("TCP_INVALID_SEQUENCE", Delivered), // tcp_sequence; up to Linux 6.5 keepalives too: tcp_validate_incoming
    ("TCP_INVALID_END_SEQUENCE", Delivered), // tcp_sequence
    ("TCP_ZEROWINDOW", Delivered),       // tcp_data_queue
    ("TCP_OVERWINDOW", Delivered),       // "zero window probe": tcp_data_queue
    ("TCP_OLD_ACK", Delivered),          // tcp_rcv_state_process
    ("TCP_TOO_OLD_ACK", Delivered),      // tcp_ack
    ("TCP_ACK_UNSENT_DATA", Delivered),  // tcp_ack
    ("TCP_INVALID_ACK_SEQUENCE", Delivered), // tcp_rcv_synsent_state_process
    ("TCP_RFC7323_PAWS", Delivered), // up to Linux 6.13 reordered ACKs too: tcp_validate_incoming
    ("TCP_RFC7323_PAWS_ACK", Delivered), // "old ACK are common": tcp_disordered_ack_check
    ("TCP_RFC7323_TW_PAWS", Delivered), // tcp_timewait_state_process
    ("TCP_RFC7323_TSECR", Delivered), // tcp_check_req
    ("TCP_RESET", Delivered),        // a reset that is answered or ignored: tcp_validate_incoming
    ("TCP_INVALID_SYN", Delivered),  // answered by a challenge ACK: tcp_validate_incoming
    ("TCP_FASTOPEN", Delivered),     // a duplicate: tcp_rcv_state_process
    // Refused by TCP options, security modules or IPsec.
    ("TCP_MINTTL", Undelivered),        // tcp_v4_rcv
    ("TCP_AUTH_HDR", Undelivered),      // tcp_inbound_hash, net/ipv4/tcp.c
    ("TCP_MD5NOTFOUND", Undelivered),   // tcp_inbound_md5_hash
    ("TCP_MD5UNEXPECTED", Undelivered), // tcp_inbound_md5_hash
    ("TCP_MD5FAILURE", Undelivered),    // tcp_inbound_md5_hash
    ("TCP_AONOTFOUND", Undelivered),    // tcp_inbound_hash
    ("TCP_AOUNEXPECTED", Undelivered),  // tcp_inbound_ao_hash, net/ipv4/tcp_ao.c
    ("TCP_AOKEYNOTFOUND", Undelivered), // tcp_inbound_ao_hash
    ("TCP_AOFAILURE", Undelivered),     // tcp_ao_verify_hash
    ("SECURITY_HOOK", Undelivered),     // sk_filter_trim_cap, net/core/filter.c
    ("XFRM_POLICY", Undelivered),       // tcp_v4_rcv, udp_queue_rcv_one_skb, raw_rcv
    ("PSP_INPUT", Undelivered),         // psp_sk_rx_policy_check, include/net/psp/functions.h
    // Malformed packets.
    ("PKT_TOO_SMALL", Undelivered), // ip_rcv_core, tcp_v4_rcv, __udp4_lib_rcv
    ("HDR_TRUNC", Undelivered),     // tun_net_xmit, tap_handle_frame
    ("IP_CSUM", Undelivered),       // ip_rcv_core, net/ipv4/ip_input.c
    ("IP_INHDR", Undelivered),      // ip_rcv_core, ip6_rcv_core
    ("TCP_CSUM", Undelivered),      // tcp_v4_rcv
    ("UDP_CSUM", Undelivered),      // __udp4_lib_rcv, udp_recvmsg
    ("ICMP_CSUM", Undelivered),     // icmp_rcv
    ("SKB_CSUM", Undelivered),      // rawv6_rcv
    ("SKB_GSO_SEG", Undelivered),   // validate_xmit_skb
    ("SKB_BAD_GSO", Undelivered),   // qdisc_pkt_len_segs_init, net/core/dev.c
    ("IPV6_BAD_EXTHDR", Undelivered), // icmpv6_notify
    ("IPV6_TOO_MANY_EXTHDRS", Undelivered), // ip6_protocol_deliver_rcu
    ("IPV6_NDISC_FRAG", Undelivered), // ndisc_rcv, net/ipv6/ndisc.c
    ("IPV6_NDISC_HOP_LIMIT", Undelivered), // ndisc_rcv
    ("IPV6_NDISC_BAD_CODE", Undelivered), // ndisc_rcv
    ("IPV6_NDISC_BAD_OPTIONS", Undelivered), // ndisc_recv_ns
    ("UNICAST_IN_L2_MULTICAST", Undelivered), // ip_rcv_finish_core
    // No protocol handler, no route, or no next hop.
    ("UNHANDLED_PROTO", Undelivered), // __netif_receive_skb_core, icmp_rcv
    ("PTYPE_ABSENT", Undelivered),    // the same in Linux 5.18
    ("IP_NOPROTO", Undelivered),      // ip_protocol_deliver_rcu
    ("IPV6DISABLED", Undelivered),    // ip6_rcv_core
    ("IP_RPFILTER", Undelivered),     // ip_rcv_finish_core, fib_validate_source
    ("IP_LOCAL_SOURCE", Undelivered), // fib_validate_source
    ("IP_INVALID_SOURCE", Undelivered), // ip_route_input_slow
    ("IP_LOCALNET", Undelivered),     // ip_route_input_slow
    ("IP_INVALID_DEST", Undelivered), // ip_route_input_slow
    ("IP_INADDRERRORS", UnlessGroup), // ip_error; a group that is not joined: ip6_protocol_deliver_rcu
    ("IP_INNOROUTES", Undelivered),   // ip_error, ip6_pkt_drop
    ("IP_OUTNOROUTES", Undelivered),  // ip6_pkt_drop
    ("IP_TTL_EXCEEDED", Undelivered), // ip_forward, ip6_forward
    ("PKT_TOO_BIG", Undelivered),     // ip_forward, ip6_forward
    ("NEIGH_CREATEFAIL", Undelivered), // ip_finish_output2
    ("NEIGH_FAILED", Undelivered),    // arp_error_report
    ("NEIGH_QUEUEFULL", Undelivered), // __neigh_event_send
    ("NEIGH_DEAD", Undelivered),      // __neigh_event_send
    ("NEIGH_HH_FILLFAIL", Undelivered), // neigh_hh_output
    ("QDISC_DROP", Undelivered),      // __dev_xmit_skb: forwarded back to where it came from
    ("QDISC_OVERLIMIT", Undelivered), // net/sched/sch_fq_codel.c and others
    ("QDISC_CONGESTED", Undelivered), // likewise
    ("QDISC_BURST_DROP", Undelivered), // __dev_xmit_skb
    ("CAKE_FLOOD", Undelivered),      // net/sched/sch_cake.c
    ("FQ_BAND_LIMIT", Undelivered),   // net/sched/sch_fq.c
    ("FQ_HORIZON_LIMIT", Undelivered), // net/sched/sch_fq.c
    ("FQ_FLOW_LIMIT", Undelivered),   // net/sched/sch_fq.c
    ("DUALPI2_STEP_DROP", Undelivered), // net/sched/sch_dualpi2.c
    ("TC_COOKIE_ERROR", Undelivered), // tc_run, net/core/dev.c
    ("TC_CHAIN_NOTFOUND", Undelivered), // tcf_classify, net/sched/cls_api.c
    ("TC_RECLASSIFY_LOOP", Undelivered), // tcf_classify
    ("BLACKHOLE", Undelivered),       // blackhole_netdev_xmit, drivers/net/loopback.c
    ("RECURSION_LIMIT", Undelivered), // __dev_queue_xmit, iptunnel_xmit
    ("DEV_READY", Undelivered),       // enqueue_to_backlog, tun_net_xmit
    ("DEV_HDR", Undelivered),         // tun_get_user
    ("FULL_RING", Undelivered),       // tun_net_xmit, tap_handle_frame
    ("SKB_UCOPY_FAULT", Undelivered), // tun_get_user, tap_get_user
    ("TAP_FILTER", Undelivered),      // tun_net_xmit
    ("TAP_TXFILTER", Undelivered),    // tun_net_xmit
    ("PSP_OUTPUT", Undelivered),      // psp_validate_xmit
    // Fragments.
    ("DUP_FRAG", Delivered), // ip_frag_queue, net/ipv4/ip_fragment.c
    ("FRAG_REASM_TIMEOUT", Undelivered), // ip_expire, inet_frag_rbtree_purge
    ("FRAG_TOO_FAR", Undelivered), // ip_frag_reinit
    // Tunnels.
    ("VXLAN_INVALID_HDR", Undelivered), // vxlan_rcv, drivers/net/vxlan/vxlan_core.c
    ("VXLAN_VNI_NOT_FOUND", Undelivered), // vxlan_rcv
    ("VXLAN_ENTRY_EXISTS", Undelivered), // vxlan_set_mac
    ("MAC_INVALID_SOURCE", Undelivered), // vxlan_set_mac, geneve_rx
    ("LOCAL_MAC", Undelivered),         // vxlan_set_mac
    ("NO_TX_TARGET", Undelivered),      // vxlan_xmit
    ("TUNNEL_TXINFO", Undelivered),     // vxlan_xmit, geneve_xmit
    ("IP_TUNNEL_ECN", Undelivered),     // vxlan_rcv, geneve_rx
    ("TNL_OPT_MISMATCH", Undelivered),  // ip_tunnel_rcv, net/ipv4/ip_tunnel.c
    ("TNL_OLD_SEQ", Undelivered),       // ip_tunnel_rcv
    ("GRE_INVALID_HDR", Undelivered),   // gre_rcv
    ("GRE_CSUM", Undelivered),          // gre_parse_header
    ("GRE_TUNNEL_NOT_FOUND", Undelivered), // gre_rcv
    // Packets for other hosts, packets ignored by configuration, and copies.
    ("OTHERHOST", Delivered), // ip_rcv_core: for another host, seen in promiscuous mode
    ("INVALID_PROTO", Delivered), // icmp_rcv: pings to a broadcast address
    ("IPV6_NDISC_NS_OTHERHOST", Delivered), // ndisc_recv_ns
    ("PACKET_SOCK_ERROR", Delivered), // packet_rcv, net/packet/af_packet.c
    ("MACVLAN_BROADCAST_BACKLOG", Delivered), // macvlan_broadcast_enqueue
    ("IPVLAN_MULTICAST_BACKLOG", Delivered), // ipvlan_multicast_enqueue
    ("BRIDGE_INGRESS_STP_STATE", Delivered), // br_handle_frame_finish
    ("MAC_IEEE_MAC_CONTROL", Delivered), // br_handle_frame
    ("ARP_PVLAN_DISABLE", Delivered), // arp_process
    ("CAN_RX_INVALID_FRAME", Delivered), // can_rcv, net/can/af_can.c
    ("CANFD_RX_INVALID_FRAME", Delivered), // canfd_rcv
    ("CANXL_RX_INVALID_FRAME", Delivered), // canxl_rcv
    ("UNIX_DISCONNECT", Delivered), // net/unix/af_unix.c
    ("UNIX_SKIP_OOB", Delivered), // net/unix/af_unix.c
];

/// Verdict on each reason of a kernel, by number. A reason missing from the table is no loss.
pub(super) fn verdicts<'a>(reasons: impl Iterator<Item = (&'a str, u32)>) -> [u8; DROP_VERDICTS] {
    let mut verdicts = [Delivered as u8; DROP_VERDICTS];
    for (name, number) in reasons {
        let verdict = VERDICTS.iter().find(|(known, _)| *known == name);
        if let (Some((_, verdict)), Some(place)) = (verdict, verdicts.get_mut(number as usize)) {
            *place = *verdict as u8;
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_one_verdict() {
        let names: BTreeSet<_> = VERDICTS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), VERDICTS.len());
    }

    #[test]
    fn verdicts_stand_at_the_numbers_that_a_kernel_gives_its_reasons() {
        let reasons =
            [("NO_SOCKET", 3), ("QUEUE_PURGE", 80), ("OF_THE_FUTURE", 5), ("IP_CSUM", 255)];
        let verdicts =
            verdicts(reasons.into_iter().chain([("UDP_CSUM", 256), ("TCP_CSUM", 0x2_0001)]));
        let at = |number: usize| verdicts[number];
        assert_eq!((at(3), at(255)), (UnlessEmpty as u8, Undelivered as u8));
        assert_eq!(verdicts.iter().filter(|verdict| **verdict != Delivered as u8).count(), 2);
    }
}
