//! Checks the records against the facts that the demo announces.

use std::net::IpAddr;

use super::{
    cast::TASKS,
    output::{ICMP, ICMP_V6, Record, TCP, UDP, flows},
    rows::counted,
};

/// Announced facts that the records contradict.
pub(super) fn broken(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let traffic = || flows(records).filter(|(_, flow)| !flow.is_housekeeping());
    for task in TASKS {
        for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
            let found = traffic().any(|(record, flow)| {
                record.service == task.service
                    && record.interface_id == task.eni
                    && flow.srcaddr.is_ipv6() == is_v6
            });
            if !found {
                broken.push(format!(
                    "no {family} record of service {} with {}",
                    task.service, task.eni
                ));
            }
        }
    }
    let kinds = [
        ("TCP over IPv4", TCP, false),
        ("TCP over IPv6", TCP, true),
        ("UDP over IPv4", UDP, false),
        ("UDP over IPv6", UDP, true),
        ("ICMP", ICMP, false),
        ("ICMPv6 echo", ICMP_V6, true),
    ];
    for (name, protocol, is_v6) in kinds {
        if !traffic().any(|(_, flow)| flow.protocol == protocol && flow.srcaddr.is_ipv6() == is_v6)
        {
            broken.push(format!("no record of {name}"));
        }
    }
    let of_agent = flows(records)
        .filter(|(_, flow)| [flow.srcaddr, flow.dstaddr].into_iter().any(is_link_local_v4))
        .count();
    if of_agent > 0 {
        broken.push(format!("{} of ecs-eth0", counted(of_agent, "record")));
    }
    broken
}

/// True for IPv4 link-local addresses, which only `ecs-eth0` has.
fn is_link_local_v4(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::output::tests::{TCP_FLOW, flow};

    #[test]
    fn what_is_missing_is_named() {
        let missing = broken(&[]);
        assert_eq!(missing.len(), 4 + 6);
        assert_eq!(missing[0], "no IPv4 record of service web with eni-0a6c55131166f85c8");
        let agent = TCP_FLOW.replace("10.0.0.2", "169.254.170.2");
        assert!(broken(&[flow("web", &agent)]).contains(&"1 record of ecs-eth0".into()));
    }
}
