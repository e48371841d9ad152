//! Records of every kind, for tests.

use std::{net::IpAddr, sync::Arc};

use super::{Batch, Context, Format, ServiceRanges, Subject};
use crate::{
    flow::{Counters, Delta, Direction, Family, FlowKey, Icmp, InterfaceNumber, Table, Window},
    tasks::{Attribute, Fact, Identity, Source},
};

pub(crate) const WINDOW: Window = Window { start: 1_700_000_040, end: 1_700_000_100 };
/// Interfaces of [`batch`]: an ENI of a task, and one with little known about it.
pub(crate) const ENI: InterfaceNumber = InterfaceNumber::new(3);
pub(crate) const PLAIN: InterfaceNumber = InterfaceNumber::new(700);

pub(crate) fn identity(facts: &[(Attribute, &str)]) -> Arc<Identity> {
    let fact = |(attribute, value): &(Attribute, &str)| Fact {
        attribute: *attribute,
        value: (*value).into(),
        source: Source::File,
    };
    Arc::new(Identity::default().merge(facts.iter().map(fact)).0)
}

pub(crate) fn eni() -> Subject {
    Subject {
        interface_id: "eni-0123456789abcdef0".into(),
        interface_name: "eth0".into(),
        mac: "0a:00:00:00:00:01".into(),
        netns: 4_026_532_000,
        primary: Some("10.0.0.5".parse().unwrap()),
        subnets: vec!["10.0.0.5/24".parse().unwrap(), "2001:db8::5/64".parse().unwrap()],
        identity: identity(&[
            (Attribute::AccountId, "012345678901"),
            (Attribute::Region, "eu-west-1"),
            (Attribute::SubnetId, "subnet-08c4050330714ed3d"),
            (Attribute::ClusterArn, "arn:aws:ecs:eu-west-1:012345678901:cluster/shop"),
            (Attribute::ServiceName, "a\"quoted\\one"),
            (Attribute::NetworkMode, "awsvpc"),
        ]),
        ..Subject::default()
    }
}

pub(crate) fn plain() -> Subject {
    Subject {
        interface_id: "veth1".into(),
        interface_name: "veth1 \u{e9}".into(),
        ..Subject::default()
    }
}

/// A flow whose number of packets is the sum of its ports.
pub(crate) fn flow(
    interface: InterfaceNumber,
    direction: Direction,
    protocol: u8,
    ends: (&str, &str),
    ports: (u16, u16),
) -> Delta {
    let words = |address: &str| {
        let (family, octets) = match address.parse().unwrap() {
            IpAddr::V4(address) => (Family::V4, address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => (Family::V6, address.octets()),
        };
        (family, [0, 8].map(|at| u64::from_ne_bytes(octets[at..at + 8].try_into().unwrap())))
    };
    let ((family, source), (_, destination)) = (words(ends.0), words(ends.1));
    let packets = 1 + u64::from(ports.0) + u64::from(ports.1);
    Delta {
        key: FlowKey::new(interface, direction, family, protocol, (source, destination), ports),
        counters: Counters {
            packets,
            bytes: packets * 52,
            first_ms: WINDOW.start * 1000 + 17,
            last_ms: WINDOW.start * 1000 + 2017,
            tcp_flags_all: 0,
            tcp_flags_aws: 0,
            icmp: Icmp::None,
            undelivered: 0,
        },
    }
}

/// Flows of every kind on both interfaces.
pub(crate) fn flows() -> Vec<Delta> {
    let mut flows = Vec::new();
    for interface in [ENI, PLAIN] {
        for direction in Direction::ALL {
            for ends in [
                ("10.0.0.5", "10.0.0.9"),
                ("10.0.0.6", "52.95.128.179"),
                ("192.0.2.1", "224.0.0.1"),
                ("2001:db8::5", "2600:1f68:8001::1"),
                ("fe80::1", "ff02::2"),
            ] {
                let ends = if direction == Direction::Egress { ends } else { (ends.1, ends.0) };
                let flow = |protocol, ports| flow(interface, direction, protocol, ends, ports);
                let mut tcp = flow(6, (40000, 443));
                (tcp.counters.tcp_flags_all, tcp.counters.tcp_flags_aws) = (0x1b, 0x03);
                let mut answer = flow(6, (443, 40000));
                (answer.counters.tcp_flags_all, answer.counters.tcp_flags_aws) = (0x1b, 0x13);
                let mut ping = flow(if ends.0.contains(':') { 58 } else { 1 }, (0, 0));
                ping.counters.icmp =
                    Icmp::One { kind: if ends.0.contains(':') { 128 } else { 8 }, code: 0 };
                let mut mixed = flow(1, (3, 3));
                mixed.counters.icmp = Icmp::Mixed;
                mixed.counters.packets = 1 << 50;
                flows.extend([
                    tcp,
                    answer,
                    flow(6, (1, 2)),
                    flow(17, (53, 65535)),
                    ping,
                    mixed,
                    flow(255, (0, 0)),
                ]);
            }
        }
    }
    flows
}

/// A window with records of every kind.
pub(crate) fn batch() -> Batch {
    let mut table = Table::new();
    for flow in flows() {
        table.add(&flow);
    }
    let silent = InterfaceNumber::new(4);
    Batch {
        flows: table,
        subjects: [(ENI, eni()), (PLAIN, plain()), (silent, eni())]
            .map(|(number, subject)| (number, Arc::new(subject)))
            .into(),
        silent: vec![silent],
        lossy: vec![(PLAIN, crate::flow::Traffic { packets: 7, bytes: 700 })],
        ..Batch::new(WINDOW)
    }
}

/// Settings with a value for everything.
pub(crate) fn context(format: Format) -> Context {
    let ranges = r#"{"prefixes": [{"ip_prefix": "52.95.128.0/21", "service": "S3"}],
        "ipv6_prefixes": [{"ipv6_prefix": "2600:1f68:8000::/39", "service": "S3"}]}"#;
    Context {
        vpc: vec!["10.0.0.0/16".parse().unwrap(), "2600:1f68::/32".parse().unwrap()],
        services: Some(Arc::new(ServiceRanges::parse(ranges.as_bytes()).unwrap())),
        account_id: Some("999999999999".into()),
        region: Some("us-east-1".into()),
        ..Context::new(format)
    }
}
