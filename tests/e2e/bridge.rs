//! Tasks and the host's uplink on one bridge: a packet crosses several interfaces and is counted
//! once per ENI.

use std::net::Ipv6Addr;

use anyhow::Result;
use observer_tests::{
    books::Books,
    fake_ecs::{self, FakeTask},
    lab,
    lab::Lab,
    netns::Namespace,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv6, LINK_HEADER, protocol, udp},
    },
    veth::{Addresses, Interface, Task, ip_batch, quiet},
};

/// A veth pair from `namespace` to the host, with addresses of the network `number`.
fn pair(
    lab: &Lab,
    host: &Namespace,
    namespace: Namespace,
    (number, name): (u8, &'static str),
) -> Result<Task> {
    let end = host.also(&lab.path(&format!("host-{name}")))?;
    let mut addresses = Addresses { name, ipv6: false, ..Addresses::default() };
    addresses.inside.0 = [10, 1, number, 1].into();
    addresses.outside.0 = [10, 1, number, 2].into();
    Task::join(namespace, end, addresses)
}

/// Sends datagrams to a MAC address that no port knows, so that the bridge floods them.
fn send(from: &Interface, count: usize, payload: usize) -> Result<Tally> {
    // A bridge with netfilter drops IPv4 packets without a header checksum.
    let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 0, 0, 0, 1);
    let frame = Ipv6::new(source, protocol::UDP, udp(1, 2, payload)).frame();
    let sent = PacketSocket::open(from)?.send(std::iter::repeat_n(&frame, count))?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

#[test]
fn a_packet_over_a_bridge_is_counted_once_for_each_eni_that_it_passes() -> Result<()> {
    let lab = lab!();
    let host = lab.other_namespace("host")?;
    let pairs = [
        pair(&lab, &host, lab.observed_namespace("one")?, (1, "veth-one"))?,
        pair(&lab, &host, lab.observed_namespace("two")?, (2, "veth-two"))?,
        pair(&lab, &host, lab.other_namespace("world")?, (3, "uplink"))?,
    ];
    ip_batch(&host, "link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;
    for pair in &pairs {
        let name = pair.outside.name();
        ip_batch(&host, &format!("addr flush dev {name}\nlink set {name} master br0\n"))?;
    }
    quiet(&pairs)?;
    let [one, two, uplink] = &pairs;
    let (one, two, world, uplink) = (&one.inside, &two.inside, &uplink.inside, &uplink.outside);

    let file = fake_ecs::write(&lab.path("tasks.json"), [&FakeTask::new(uplink, "host", 0xe5)])?;
    let sources = ["netns", "host"];
    let daemon = lab.daemon().sources(&sources).tasks_file(&file).inside(&host).start()?;
    let (from_one, from_two, from_world) =
        (send(one, 300, 10)?, send(two, 500, 20)?, send(world, 700, 30)?);
    let books = Books::close(daemon, [one, two, uplink])?;
    books.assert_exact(one, Crossed { ingress: from_two + from_world, egress: from_one });
    books.assert_exact(two, Crossed { ingress: from_one + from_world, egress: from_two });
    books.assert_exact(uplink, Crossed { ingress: from_world, egress: from_one + from_two });
    let of_enis = [one, two, uplink].map(|eni| books.records.of(eni.mac()).count());
    assert_eq!(
        of_enis.iter().sum::<usize>(),
        books.records.all.len(),
        "records of ENIs, and all records"
    );
    Ok(())
}
