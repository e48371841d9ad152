//! The records as tables.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    cast::TASKS,
    output::{Direction, Flow, ICMP, ICMP_V6, Record, TCP, UDP, flows},
    table::{
        Align::{Left, Right},
        grouped, render,
    },
};

/// Most rows that are printed.
const ROWS: usize = 32;
/// A row for each flow of interest, and sums for the rest.
pub(super) fn table(records: &[Record]) -> String {
    let (housekeeping, mut shown): (Vec<_>, Vec<_>) =
        flows(records).partition(|(_, flow)| flow.is_housekeeping());
    shown.sort_by_cached_key(|(record, flow)| {
        // Puts both directions of a conversation next to each other, the server's end first.
        let mut ends = [(flow.srcport, flow.srcaddr), (flow.dstport, flow.dstaddr)];
        ends.sort_unstable();
        let task = TASKS.iter().position(|task| task.service == record.service);
        (task, flow.srcaddr.is_ipv6(), rank(flow.protocol), ends, flow.direction)
    });
    let rows: Vec<_> = shown.iter().take(ROWS).map(|(record, flow)| row(record, flow)).collect();
    let header = [
        ("SERVICE", Left),
        ("ENI", Left),
        ("DIR", Left),
        ("SOURCE", Right),
        ("", Left),
        ("DESTINATION", Left),
        ("PROTO", Left),
        ("PACKETS", Right),
        ("BYTES", Right),
        ("FLAGS", Left),
    ];
    let mut text = render(header, &rows);
    if shown.len() > ROWS {
        let _ = writeln!(text, "  … and {} more of this kind", shown.len() - ROWS);
    }
    let _ = writeln!(text);
    if !housekeeping.is_empty() {
        let _ = writeln!(
            text,
            "  + {} of IP looking after itself (neighbour discovery, multicast reports): {} packets",
            counted(housekeeping.len(), "record"),
            housekeeping.iter().map(|(_, flow)| flow.packets).sum::<u64>(),
        );
    }
    for (status, meaning) in [
        ("NODATA", "a window in which a task was silent"),
        ("SKIPDATA", "packets that are in no record"),
    ] {
        let count = records.iter().filter(|record| record.log_status == status).count();
        if count > 0 {
            let _ = writeln!(text, "  + {} of {meaning} ({status})", counted(count, "record"));
        }
    }
    text
}

/// A count with its unit, in the plural if needed.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The order of protocols in the table.
fn rank(protocol: u8) -> u8 {
    [TCP, UDP, ICMP, ICMP_V6]
        .iter()
        .position(|it| *it == protocol)
        .map_or(u8::MAX, |rank| rank as u8)
}

fn row(record: &Record, flow: &Flow) -> [String; 10] {
    [
        record.service.clone(),
        record.interface_id.clone(),
        match flow.direction {
            Direction::Ingress => "in".into(),
            Direction::Egress => "out".into(),
        },
        end(flow.srcaddr, flow.srcport, flow),
        "→".into(),
        end(flow.dstaddr, flow.dstport, flow),
        match flow.protocol {
            TCP => "TCP".into(),
            UDP => "UDP".into(),
            ICMP => "ICMP".into(),
            ICMP_V6 => "ICMPv6".into(),
            other => other.to_string(),
        },
        grouped(flow.packets),
        grouped(flow.bytes),
        flags(flow),
    ]
}

fn end(address: IpAddr, port: u16, flow: &Flow) -> String {
    if [ICMP, ICMP_V6].contains(&flow.protocol) {
        address.to_string()
    } else {
        SocketAddr::new(address, port).to_string()
    }
}

/// TCP flags in the order in which a connection shows them; for ICMP the type.
fn flags(flow: &Flow) -> String {
    const FLAGS: [(u8, &str); 4] = [(2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST")];
    match (flow.protocol, flow.icmp_type) {
        (ICMP, Some(8)) | (ICMP_V6, Some(128)) => "echo request".into(),
        (ICMP, Some(0)) | (ICMP_V6, Some(129)) => "echo reply".into(),
        _ => {
            let set =
                FLAGS.iter().filter(|(bit, _)| flow.tcp_flags & bit != 0).map(|(_, name)| *name);
            set.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Sums of sent and received traffic per service.
pub(super) fn totals(records: &[Record]) -> String {
    let rows = TASKS.map(|task| {
        let of_task = || flows(records).filter(|(record, _)| record.service == task.service);
        let sum = |direction: Direction, value: fn(&Flow) -> u64| {
            let flows = of_task().filter(|(_, flow)| flow.direction == direction);
            grouped(flows.map(|(_, flow)| value(flow)).sum())
        };
        [
            task.service.to_owned(),
            task.eni.to_owned(),
            of_task().count().to_string(),
            sum(Direction::Ingress, |flow| flow.packets),
            sum(Direction::Ingress, |flow| flow.bytes),
            sum(Direction::Egress, |flow| flow.packets),
            sum(Direction::Egress, |flow| flow.bytes),
        ]
    });
    let header = [
        ("SERVICE", Left),
        ("ENI", Left),
        ("RECORDS", Right),
        ("PACKETS IN", Right),
        ("BYTES IN", Right),
        ("PACKETS OUT", Right),
        ("BYTES OUT", Right),
    ];
    render(header, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::output::tests::{TCP_FLOW, flow, icmp_v6};

    #[test]
    fn housekeeping_is_summed_up_and_not_shown_in_rows() {
        let text = table(&[
            flow("web", TCP_FLOW),
            flow("web", &icmp_v6("ff02::16", 143)),
            flow("web", &icmp_v6("fd20:1::2", 128)),
        ]);
        assert!(text.contains("10.0.0.1:40000  →  10.0.0.2:80"), "{text}");
        assert!(text.contains("SYN FIN"), "{text}");
        assert!(text.contains("echo request"), "{text}");
        assert!(!text.contains("ff02::16"), "{text}");
        assert!(text.contains("+ 1 record of IP looking after itself"), "{text}");
        assert!(!text.contains("NODATA"), "{text}");
    }

    #[test]
    fn rows_that_are_too_many_are_counted() {
        let text = table(&vec![flow("web", TCP_FLOW); ROWS + 2]);
        assert!(text.contains("… and 2 more"), "{text}");
    }
}
