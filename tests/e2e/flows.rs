//! Counts of UDP, TCP and ICMP, and the direction of their connections.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    cpus,
    fake_ecs::{self, FakeTask},
    lab,
    records::{Flow, FlowSum, Records, Status},
    tally::{Crossed, Direction, Tally},
    traffic::{
        Connection, Conversation, PacketSocket, SINK, Transfer, Udp, exchange, frames, ping,
    },
    veth::Family,
};

const FIN: u64 = 1;
const SYN: u64 = 2;
const ACK: u64 = 16;

/// The flow of one side of a connection.
fn side(Connection { client, server, .. }: &Connection, from_client: bool) -> Flow {
    let (source, destination) = if from_client { (client, server) } else { (server, client) };
    Flow {
        source: source.ip(),
        destination: destination.ip(),
        source_port: source.port(),
        destination_port: destination.port(),
        protocol: frames::protocol::TCP,
    }
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

#[test]
fn udp_is_recorded_packet_for_packet() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    let udp = |family| Udp { family, flows: 50, packets: 20, payload: 100 };
    for family in Family::ALL {
        sent.ingress += udp(family).send(&task.outside, &task.inside)?;
        sent.egress += udp(family).send(&task.inside, &task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);

    let flows = books.records.flows(task.inside.mac());
    assert_eq!(flows.len(), 4 * 50, "flows");
    for family in Family::ALL {
        for number in 0..50 {
            let flow = Flow {
                source: task.outside.address(family),
                destination: task.inside.address(family),
                source_port: Udp::FIRST_PORT + number,
                destination_port: SINK,
                protocol: frames::protocol::UDP,
            };
            let sum =
                flows.get(&(Direction::Ingress, flow)).with_context(|| format!("{flow:?}"))?;
            assert_eq!(sum.tally, udp(family).per_flow(), "{flow:?}");
        }
    }
    Ok(())
}

#[test]
fn fragments_of_a_datagram_are_of_its_flow() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    let large = |family| Udp { family, flows: 3, packets: 10, payload: 10_000 };
    for family in Family::ALL {
        sent.ingress += large(family).send(&task.outside, &task.inside)?;
        sent.egress += large(family).send(&task.inside, &task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let flows = books.records.flows(task.inside.mac());
    assert_eq!(flows.len(), 4 * 3, "flows of which each has all fragments of its datagrams");
    for ((_, flow), sum) in flows {
        let family = if flow.source.is_ipv4() { Family::V4 } else { Family::V6 };
        assert_eq!(sum.tally, large(family).per_flow(), "{flow:?}");
    }
    Ok(())
}

#[test]
fn one_flow_from_several_cpus_is_one_flow() -> Result<()> {
    const EACH: usize = 20_000;
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let packet =
        frames::Ipv4::new([10, 9, 0, 1].into(), frames::protocol::UDP, frames::udp(7, 8, 30))
            .frame();
    let sent = cpus::on_each(|_| {
        PacketSocket::open(&task.outside)?.send(std::iter::repeat_n(&packet, EACH))
    })?;
    let (cpus, sent) = (sent.len(), sent.into_iter().sum::<Tally>());
    let sent = Tally::new(sent.packets, sent.bytes - sent.packets * frames::LINK_HEADER);
    assert_eq!(sent, Tally::of((cpus * EACH) as u64, 58));
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(books.records.flows(task.inside.mac()).len(), 1, "flows from {cpus} CPUs");
    Ok(())
}

#[test]
fn a_flow_of_one_packet_is_recorded_with_one_packet() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let sent = Udp { family: Family::V4, flows: 1, packets: 1, payload: 0 }
        .send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    assert_eq!(books.records.with_status(task.inside.mac(), Status::Ok).len(), 1);
    Ok(())
}

#[test]
fn tcp_flags_of_a_short_connection_tell_client_from_server() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    let mut connections = Vec::new();
    for family in Family::ALL {
        let transfer = Transfer { family, request: 300, response: 5_000 };
        let served = exchange(&task.outside, &task.inside, transfer)?;
        sent += Crossed { ingress: served.from_client, egress: served.from_server };
        let asked = exchange(&task.inside, &task.outside, transfer)?;
        sent += Crossed { ingress: asked.from_server, egress: asked.from_client };
        connections.push((served, Direction::Ingress));
        connections.push((asked, Direction::Egress));
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);

    let flows = books.records.flows(task.inside.mac());
    for (connection, from_client) in connections {
        let client = flows[&(from_client, side(&connection, true))];
        let server = flows[&(opposite(from_client), side(&connection, false))];
        assert_eq!(client.tally, connection.from_client, "{connection:?}");
        assert_eq!(server.tally, connection.from_server, "{connection:?}");
        assert_eq!(client.tcp_flags, SYN | FIN, "the client of {connection:?}");
        assert_eq!(server.tcp_flags, SYN | ACK | FIN, "the server of {connection:?}");
        assert_eq!(
            client.tcp_flags_all & (SYN | ACK | FIN),
            SYN | ACK | FIN,
            "the client's own ACKs"
        );
    }
    Ok(())
}

#[test]
fn a_connection_that_is_older_than_the_daemon_is_told_by_where_it_crosses() -> Result<()> {
    let lab = lab!();
    for to_task in [true, false] {
        let name = if to_task { "asked" } else { "asking" };
        let task = lab.task(name)?;
        let [client, server] =
            if to_task { [&task.outside, &task.inside] } else { [&task.inside, &task.outside] };
        let mut conversation = Conversation::open(client, server, Family::V4)?;
        conversation.forget()?;
        let daemon = lab.daemon().name(name).start()?;
        // The first packet that is seen comes from the end that did not open the connection.
        conversation.ask(0, 2_000)?;
        conversation.ask(300, 0)?;
        let connection = conversation.close()?;
        let records = Records::read(&daemon.stop()?.out)?;
        assert_eq!(records.lost(task.inside.mac()), Tally::default(), "lost");
        let by_client = if to_task { Direction::Ingress } else { Direction::Egress };
        let flows = records.flows(task.inside.mac());
        assert_eq!(flows.len(), 2, "{flows:#?}");
        for (direction, from_client, tally) in [
            (by_client, true, connection.from_client),
            (opposite(by_client), false, connection.from_server),
        ] {
            let sum = flows[&(direction, side(&connection, from_client))];
            assert_eq!(sum.tally, tally, "{name} {direction}");
            assert_eq!(sum.tcp_flags, FIN, "no handshake was seen: {name} {direction}");
        }
    }
    Ok(())
}

#[test]
fn neither_addresses_nor_ports_nor_flags_say_which_way_a_packet_went() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let (low, high) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
    let udp = |from, to| (frames::protocol::UDP, frames::udp(from, to, 30));
    let tcp = |flags| (frames::protocol::TCP, frames::tcp(7_000, 7_000, flags));
    let (syn, syn_ack) = (SYN as u8, (SYN | ACK) as u8);
    // Count, direction, source, destination and frame.
    let all = [
        // Both ports are ephemeral, and the response comes before the request.
        (2, Direction::Egress, high, low, udp(50_000, 40_000)),
        (3, Direction::Ingress, low, high, udp(40_000, 50_000)),
        // Both ends have the same address and port.
        (4, Direction::Ingress, low, low, udp(9, 9)),
        (5, Direction::Egress, low, low, udp(9, 9)),
        // The same 5-tuple in both directions.
        (6, Direction::Ingress, high, low, udp(1, 2)),
        (7, Direction::Egress, high, low, udp(1, 2)),
        // A simultaneous open of one connection.
        (1, Direction::Ingress, low, high, tcp(syn)),
        (1, Direction::Egress, high, low, tcp(syn)),
        (1, Direction::Ingress, low, high, tcp(syn_ack)),
        (1, Direction::Egress, high, low, tcp(syn_ack)),
    ];
    let (mut sent, mut expected) =
        (Crossed::default(), BTreeMap::<(Direction, Flow), Tally>::new());
    for (times, direction, source, destination, (protocol, payload)) in all {
        let ports = [0, 2].map(|at| u16::from_be_bytes([payload[at], payload[at + 1]]));
        let packet = frames::Ipv4 { destination, ..frames::Ipv4::new(source, protocol, payload) };
        let tally = Tally::of(times, packet.bytes().len() as u64);
        let sender = if direction == Direction::Ingress { &task.outside } else { &task.inside };
        PacketSocket::open(sender)?.send(std::iter::repeat_n(packet.frame(), times as usize))?;
        sent += if direction == Direction::Ingress {
            Crossed::ingress(tally)
        } else {
            Crossed::egress(tally)
        };
        let [source, destination] = [source, destination].map(IpAddr::from);
        let [source_port, destination_port] = ports;
        let flow = Flow { source, destination, source_port, destination_port, protocol };
        *expected.entry((direction, flow)).or_default() += tally;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let flows = books.records.flows(task.inside.mac());
    let recorded: BTreeMap<_, _> = flows.iter().map(|(flow, sum)| (*flow, sum.tally)).collect();
    assert_eq!(recorded, expected);
    for ((_, flow), sum) in
        flows.iter().filter(|((_, flow), _)| flow.protocol == frames::protocol::TCP)
    {
        assert_eq!(sum.tcp_flags, SYN | ACK, "{flow:?}");
    }
    Ok(())
}

#[test]
fn every_combination_of_tcp_flags_is_kept() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let from = [10, 9, 0, 1].into();
    let all: Vec<_> = (0..=255)
        .map(|flags| {
            frames::Ipv4::new(
                from,
                frames::protocol::TCP,
                frames::tcp(1000 + u16::from(flags), 80, flags),
            )
        })
        .map(|packet| packet.frame())
        .collect();
    PacketSocket::open(&task.outside)?.send(&all)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(Tally::of(256, 40)));

    let flows = books.records.flows(task.inside.mac());
    assert_eq!(flows.len(), 256, "flows");
    for ((_, flow), FlowSum { tcp_flags, tcp_flags_all, .. }) in flows {
        let flags = u64::from(flow.source_port) - 1000;
        // FIN, SYN and RST count always, ACK only in one packet with SYN.
        let expected = (flags & 7) | if flags & (SYN | ACK) == SYN | ACK { SYN | ACK } else { 0 };
        assert_eq!(
            (tcp_flags_all, tcp_flags),
            (flags, expected),
            "a packet with flags {flags:#04x}"
        );
    }
    Ok(())
}

#[test]
fn icmp_has_ports_0_and_its_type_beside() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Crossed::default();
    let mut all = Vec::new();
    for family in Family::ALL {
        let pings = ping(&task.inside, &task.outside, family, 10, 56)?;
        sent += Crossed { ingress: pings.each_way, egress: pings.each_way };
        all.push(pings);
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);

    let records = books.records.with_status(task.inside.mac(), Status::Ok);
    for pings in all {
        for (direction, kind) in
            [(Direction::Egress, pings.request), (Direction::Ingress, pings.reply)]
        {
            let mut of_kind = records.iter().filter_map(|record| {
                let (its_direction, flow) = record.flow?;
                (its_direction == direction && flow.protocol == pings.protocol)
                    .then_some((record, flow))
            });
            let (record, flow) =
                of_kind.next().with_context(|| format!("{direction} of {pings:?}"))?;
            assert_eq!((flow.source_port, flow.destination_port), (0, 0), "ports of ICMP");
            assert_eq!(
                record.number("icmp_type"),
                Some(kind.into()),
                "icmp_type, {direction} of {pings:?}"
            );
            assert_eq!(record.number("icmp_code"), Some(0), "icmp_code");
        }
    }
    Ok(())
}

#[test]
fn records_carry_the_task_of_the_tasks_file() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks(["web", "batch"].map(String::from))?;
    let web = FakeTask::new(&tasks[0].inside, "web", 0xa1);
    let mut batch = FakeTask::new(&tasks[1].inside, "batch", 0xb2);
    batch.service = None;
    batch.containers.truncate(1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&web, &batch])?;
    let daemon = lab.daemon().tasks_file(&file).start()?;
    let udp = Udp { family: Family::V4, flows: 1, packets: 3, payload: 10 };
    let mut sent = Vec::new();
    for task in &tasks {
        sent.push(udp.send(&task.outside, &task.inside)?);
    }
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;

    for ((task, ecs), sent) in tasks.iter().zip([&web, &batch]).zip(sent) {
        books.assert_exact(&task.inside, Crossed::ingress(sent));
        let records = books.records.with_status(task.inside.mac(), Status::Ok);
        let [record] = records[..] else { anyhow::bail!("{} records of one flow", records.len()) };
        for (key, expected) in [
            ("account_id", ecs.account.as_str()),
            ("region", &ecs.region),
            ("interface_id", &ecs.eni),
            ("subnet_id", &ecs.subnet),
            ("ecs_cluster_arn", &ecs.cluster_arn()),
            ("ecs_cluster_name", &ecs.cluster),
            ("ecs_container_instance_arn", &ecs.instance_arn()),
            ("ecs_container_instance_id", &ecs.instance_id()),
            ("ecs_service_name", ecs.service.as_deref().unwrap_or("")),
            ("ecs_task_definition_arn", &ecs.definition_arn()),
            ("ecs_task_arn", &ecs.arn_of_task()),
            ("ecs_task_id", &ecs.id),
            ("ecs_container_id", ecs.containers.first().map_or("", String::as_str)),
            ("ecs_second_container_id", ecs.containers.get(1).map_or("", String::as_str)),
            ("network_mode", "awsvpc"),
            ("interface_name", "eth0"),
            ("mac", &task.inside.mac().to_string()),
            ("pkt_srcaddr", &task.outside.address(Family::V4).to_string()),
            ("pkt_dstaddr", &task.inside.address(Family::V4).to_string()),
        ] {
            assert_eq!(record.text(key), expected, "{key} of {}", ecs.family);
        }
        assert_eq!(record.number("netns"), Some(task.inside.namespace().inode()), "netns");
    }
    for file in &books.records.files {
        let folder = "AWSLogs/123456789012/vpcflowlogs/eu-west-1/";
        assert!(
            file.to_string_lossy().contains(folder),
            "{} is not below {folder}",
            file.display()
        );
    }
    Ok(())
}
