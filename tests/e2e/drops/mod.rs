//! Drops by the host: policy drops become REJECT records, and every packet is in one record.

mod clean;
mod limits;
mod netfilter;
mod programs;
mod without;

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    records::{Flow, Records},
    tally::{Crossed, Direction, Tally},
    traffic::{
        SINK, Udp,
        frames::{LINK_HEADER, protocol},
    },
    veth::{Family, Interface, Task},
};

const NETFILTER: &str = "NETFILTER_DROP";

/// Traffic of an interface by its own counters, without super-packets.
fn crossed(interface: &Interface) -> Result<Crossed> {
    let frames = interface.counters()?.frames;
    Ok(Crossed::of(|direction| {
        let Tally { packets, bytes } = frames.get(direction);
        Tally::new(packets, bytes - packets * LINK_HEADER)
    }))
}

/// Packets of an interface rejected for a reason, in one direction.
fn rejected(records: &Records, interface: &Interface, direction: Direction, reason: &str) -> Tally {
    let all = records.rejected(interface.mac());
    let those = all.iter().filter(|(((its, _), why), _)| *its == direction && why == reason);
    those.map(|(_, sum)| sum.tally).sum()
}

/// Packets rejected for any reason, in both directions.
fn all_rejected(records: &Records, interface: &Interface) -> Tally {
    records.rejected(interface.mac()).values().map(|sum| sum.tally).sum()
}

fn unbooked(books: &Books, cause: &str) -> u64 {
    books.metrics.sum("observer_unbooked_rejects_packets_total", &[("cause", cause)])
}

/// Asserts that every packet of the flows of `udp` is in REJECT records only.
fn assert_flows_rejected(
    books: &Books,
    task: &Task,
    direction: Direction,
    udp: &Udp,
    reason: &str,
) -> Result<()> {
    let (from, to) = match direction {
        Direction::Ingress => (&task.outside, &task.inside),
        Direction::Egress => (&task.inside, &task.outside),
    };
    let (rejected, accepted) =
        (books.records.rejected(task.inside.mac()), books.records.accepted(task.inside.mac()));
    for number in 0..udp.flows {
        let flow = Flow {
            source: from.address(udp.family),
            destination: to.address(udp.family),
            source_port: Udp::FIRST_PORT + number,
            destination_port: SINK,
            protocol: protocol::UDP,
        };
        let sum = rejected.get(&((direction, flow), reason.to_owned()));
        let sum =
            sum.with_context(|| format!("no REJECT for {reason} of {flow:?} in {rejected:#?}"))?;
        assert_eq!(sum.tally, udp.per_flow(), "rejected of {flow:?}");
        let left = accepted.get(&(direction, flow));
        assert!(left.is_none(), "of {flow:?} {left:?} is said to be accepted");
    }
    Ok(())
}

const fn udp(family: Family) -> Udp {
    Udp { family, flows: 4, packets: 25, payload: 100 }
}

/// Runs `ping` for echo requests that may get no reply; returns their packets and bytes.
fn knocking(
    from: &Interface,
    to: &Interface,
    family: Family,
    count: u16,
    payload: usize,
) -> Result<(Command, Tally)> {
    let (count_text, size, address) =
        (count.to_string(), payload.to_string(), to.address(family).to_string());
    let mut command = Command::new("ping");
    command.args(["-n", "-q", "-i", "0.01", "-W", "0.1", "-c", &count_text, "-s", &size, &address]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    from.namespace().place(&mut command)?;
    Ok((command, Tally::of(count.into(), family.header() + 8 + payload as u64)))
}
