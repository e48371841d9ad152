//! What is counted of UDP, TCP and ICMP, and whose it is said to be.

use std::{panic, thread};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use observer_tests::{
    books::Books,
    fake_ecs::{self, FakeTask},
    lab,
    records::{Flow, FlowSum, Status},
    tally::{Crossed, Direction, Tally},
    traffic::{Connection, PacketSocket, SINK, Transfer, Udp, exchange, frames, ping},
    veth::Family,
};

const FIN: u64 = 1;
const SYN: u64 = 2;
const ACK: u64 = 16;

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
            let sum = flows.get(&(Direction::Ingress, flow)).with_context(|| format!("{flow:?}"))?;
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
        frames::Ipv4::new([10, 9, 0, 1].into(), frames::protocol::UDP, frames::udp(7, 8, 30)).frame();
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    let send_on = |cpu: usize| -> Result<Tally> {
        let mut here = CpuSet::new();
        here.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &here)?;
        PacketSocket::open(&task.outside)?.send(std::iter::repeat_n(&packet, EACH))
    };
    let sent = thread::scope(|scope| {
        let senders: Vec<_> = cpus.iter().map(|cpu| scope.spawn(|| send_on(*cpu))).collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .sum::<Result<Tally>>()
    })?;
    let sent = Tally::new(sent.packets, sent.bytes - sent.packets * frames::LINK_HEADER);
    assert_eq!(sent, Tally::of((cpus.len() * EACH) as u64, 58));
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(books.records.flows(task.inside.mac()).len(), 1, "flows from {} CPUs", cpus.len());
    Ok(())
}

#[test]
fn a_flow_of_one_packet_is_recorded_with_one_packet() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let sent =
        Udp { family: Family::V4, flows: 1, packets: 1, payload: 0 }.send(&task.inside, &task.outside)?;
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
    let opposite = |direction| match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    };
    let side = |Connection { client, server, .. }: &Connection, from_client: bool| {
        let (source, destination) = if from_client { (client, server) } else { (server, client) };
        Flow {
            source: source.ip(),
            destination: destination.ip(),
            source_port: source.port(),
            destination_port: destination.port(),
            protocol: frames::protocol::TCP,
        }
    };
    for (connection, from_client) in connections {
        let client = flows[&(from_client, side(&connection, true))];
        let server = flows[&(opposite(from_client), side(&connection, false))];
        assert_eq!(client.tally, connection.from_client, "{connection:?}");
        assert_eq!(server.tally, connection.from_server, "{connection:?}");
        assert_eq!(client.tcp_flags, SYN | FIN, "the client of {connection:?}");
        assert_eq!(server.tcp_flags, SYN | ACK | FIN, "the server of {connection:?}");
        assert_eq!(client.tcp_flags_all & (SYN | ACK | FIN), SYN | ACK | FIN, "the client's own ACKs");
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
            frames::Ipv4::new(from, frames::protocol::TCP, frames::tcp(1000 + u16::from(flags), 80, flags))
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
        // FIN, SYN and RST count by themselves, ACK only in one packet with SYN.
        let expected = (flags & 7) | if flags & (SYN | ACK) == SYN | ACK { SYN | ACK } else { 0 };
        assert_eq!((tcp_flags_all, tcp_flags), (flags, expected), "a packet with flags {flags:#04x}");
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
        for (direction, kind) in [(Direction::Egress, pings.request), (Direction::Ingress, pings.reply)] {
            let mut of_kind = records.iter().filter_map(|record| {
                let (its_direction, flow) = record.flow?;
                (its_direction == direction && flow.protocol == pings.protocol).then_some((record, flow))
            });
            let (record, flow) = of_kind.next().with_context(|| format!("{direction} of {pings:?}"))?;
            assert_eq!((flow.source_port, flow.destination_port), (0, 0), "ports of ICMP");
            assert_eq!(record.number("icmp_type"), Some(kind.into()), "icmp_type, {direction} of {pings:?}");
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
        assert!(file.to_string_lossy().contains(folder), "{} is not below {folder}", file.display());
    }
    Ok(())
}
