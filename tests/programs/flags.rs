//! TCP flags of many packets in one flow: both masks, of every pair of the 256 combinations that
//! one packet can carry.

use std::{collections::HashMap, net::IpAddr};

use anyhow::Result;
use observer::flow::Delta;
use observer_ebpf::abi::Direction;
use observer_tests::{need, requires};

use crate::{
    loaded::{Load, Loaded, sizes},
    packets::Input,
};

/// The `tcp-flags` of VPC Flow Logs for these packets: FIN, SYN and RST, SYN-ACK as 18, ACK alone
/// never.
fn aws(packets: &[u8]) -> u8 {
    packets.iter().fold(0, |mask, flags| {
        let fin_syn_rst = flags & (0x01 | 0x02 | 0x04);
        let syn_ack = if flags & 0x02 != 0 && flags & 0x10 != 0 { 18 } else { 0 };
        mask | fin_syn_rst | syn_ack
    })
}

/// A TCP packet with these flags, of the flow with this number.
fn packet(is_v6: bool, flow: u16, flags: u8) -> Input {
    let [high, low] = flow.to_be_bytes();
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if is_v6 {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    } else {
        bytes.extend([
            8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, high, low, 10, 1, 0, 2,
        ]);
    }
    bytes
        .extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    Input::whole(bytes)
}

#[test]
fn both_masks_are_exact_for_every_pair_of_flag_combinations() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load { sizes: sizes(16 << 20), ..Load::default() });
    for first in 0..=255 {
        // Each pair once, because the masks do not depend on direction and addresses.
        let is_v6 = first % 2 == 1;
        let direction = if is_v6 { Direction::Egress } else { Direction::Ingress };
        for second in 0..=255 {
            let flow = u16::from_be_bytes([first, second]);
            loaded.send(direction, &packet(is_v6, flow, first));
            loaded.send(direction, &packet(is_v6, flow, second));
        }
        // One entry per CPU that the test ran on.
        let mut flows: HashMap<IpAddr, (u64, u8, u8)> = HashMap::new();
        for Delta { key, counters } in loaded.flows() {
            let (packets, all, aws) = flows.entry(key.source()).or_default();
            *packets += counters.packets;
            *all |= counters.tcp_flags_all;
            *aws |= counters.tcp_flags_aws;
        }
        assert_eq!(flows.len(), 256);
        for (source, counted) in flows {
            let second = match source {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(v6) => v6.octets()[15],
            };
            let place = format!("{first:#04x}, {second:#04x}");
            assert_eq!(counted, (2, first | second, aws(&[first, second])), "{place}");
        }
    }
    Ok(())
}
