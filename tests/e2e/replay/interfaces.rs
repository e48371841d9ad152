//! Captures of several interfaces: their names, clocks and link types.

use std::collections::BTreeSet;

use anyhow::Result;
use observer_tests::{
    capture::{Description, Order, Packet, block, pcap, pcapng},
    daemon::command,
    lab,
    tally::{Direction, Tally},
};

use super::{
    BEGIN, attempt, fed, replay,
    samples::{LOCAL, at, bytes, frame},
    times,
};

#[test]
fn interfaces_of_a_pcapng_file_have_names_and_clocks_of_their_own() -> Result<()> {
    let lab = lab!();
    for order in Order::ALL {
        let interfaces = [
            Description { resolution: Some(9), ..Description::new("eth0") },
            Description { resolution: Some(0x8a), offset: 3600, ..Description::new("eth 1") },
            Description { resolution: Some(3), ..Description::new("") },
        ];
        let mut packets = Vec::new();
        for interface in 0..3 {
            for ms in [250, 500] {
                packets.push(Packet { interface, ..at(ms, frame(Direction::Egress)) });
            }
        }
        let replayed = replay(&lab, &pcapng(order, &interfaces, &packets), &LOCAL)?;
        assert_eq!(replayed.count("interfaces"), 3);
        for name in ["eth0", "eth_1", "capture"] {
            let records: Vec<_> = replayed
                .records
                .all
                .iter()
                .filter(|it| it.text("interface_name") == name)
                .collect();
            let [record] = records[..] else { panic!("{name}: {:#?}", replayed.records.all) };
            assert_eq!(times(record), (BEGIN * 1000 + 250, BEGIN * 1000 + 500), "{name}");
            assert_eq!(record.text("interface_id"), name);
            assert_eq!(record.tally, Tally::of(2, 58), "{name}");
        }
    }
    Ok(())
}

/// An interface with unreadable packets does not affect the others.
#[test]
fn interfaces_of_other_link_types_are_reported() -> Result<()> {
    const USB: u16 = 189;
    let lab = lab!();
    let interfaces =
        [Description { link_type: USB, ..Description::new("usbmon0") }, Description::new("eth0")];
    let packets: Vec<Packet> =
        [0, 1, 0].map(|interface| Packet { interface, ..at(0, frame(Direction::Egress)) }).into();
    let replayed = replay(&lab, &pcapng(Order::Little, &interfaces, &packets), &LOCAL)?;
    assert_eq!(replayed.report["other_link"], serde_json::json!({ "189 (USB_LINUX)": 2 }));
    let [record] = &replayed.records.all[..] else { panic!("{replayed:#?}") };
    assert_eq!((record.text("interface_name"), record.tally), ("eth0", Tally::of(1, 58)));
    Ok(())
}

/// As in a capture of the pseudo-interface `any` on a host with many tasks.
#[test]
fn many_interfaces_are_told_apart() -> Result<()> {
    const MANY: u32 = 300;
    let lab = lab!();
    let of = |index: u32| {
        let header =
            [&[8, 0, 0, 0][..], &index.to_be_bytes(), &[0, 1, 4, 6, 2, 0, 0, 0, 0, 1, 0, 0]]
                .concat();
        at(0, [header, bytes(Direction::Egress)].concat())
    };
    let packets: Vec<Packet> = (1..=MANY).chain(1..=MANY).map(of).collect();
    let replayed = replay(&lab, &pcap(Order::Little, 276, false, &packets), &[])?;
    assert_eq!(replayed.count("interfaces"), u64::from(MANY));
    let names: BTreeSet<_> =
        replayed.records.all.iter().map(|record| record.text("interface_name")).collect();
    assert_eq!((names.len(), replayed.records.all.len()), (MANY as usize, MANY as usize));
    assert!(replayed.records.all.iter().all(|record| record.tally == Tally::of(2, 58)));

    let packets: Vec<Packet> = (1..=2000).map(of).collect();
    let replayed = attempt(&lab, &pcap(Order::Little, 276, false, &packets), &[])?;
    assert_eq!(replayed.exit.status.code(), Some(1), "{}", replayed.exit.stderr);
    assert!(replayed.exit.stderr.contains("split the capture"), "{}", replayed.exit.stderr);
    Ok(())
}

/// Concatenated files; byte orders may differ. They may be from different hosts.
#[test]
fn interfaces_of_several_sections_stay_apart_whatever_their_names() -> Result<()> {
    let lab = lab!();
    let section = |order, ms| {
        let interfaces = [Description::new("eth0"), Description::new("eth1")];
        pcapng(order, &interfaces, &[Packet { interface: 1, ..at(ms, frame(Direction::Egress)) }])
    };
    let capture =
        [section(Order::Little, 1), section(Order::Big, 2), section(Order::Little, 3)].concat();
    let replayed = replay(&lab, &capture, &LOCAL)?;
    assert_eq!(replayed.count("interfaces"), 3);
    let records: Vec<_> = replayed
        .records
        .all
        .iter()
        .map(|record| (record.text("interface_name"), record.tally, times(record).0))
        .collect();
    let one = Tally::of(1, 58);
    let expected = ["eth1", "eth1:2", "eth1:3"].into_iter().zip(BEGIN * 1000 + 1..);
    for (name, time) in expected {
        assert!(records.contains(&(name, one, time)), "{name} in {records:?}");
    }
    assert_eq!(records.len(), 3);
    Ok(())
}

/// Programs that join captures write an empty name for an interface without a name.
#[test]
fn a_name_without_a_letter_is_no_name() -> Result<()> {
    let _lab = lab!();
    for name in [&b""[..], b"\0", b"\xff\xfe"] {
        // An interface description with a name option of any length, also 0.
        let option = [&[2, 0][..], &(name.len() as u16).to_le_bytes(), name].concat();
        let mut body = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &option].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let section = pcapng(Order::Little, &[], &[]);
        let packet =
            pcapng(Order::Little, &[Description::new("")], &[at(0, frame(Direction::Egress))]);
        // Behind the section header and the description of an interface without a name.
        let packet = &packet[section.len() + 20..];
        let capture = [&section[..], &block(Order::Little, 1, &body), packet].concat();
        let exit = fed(command()?.args(["replay", "-"]).args(LOCAL), &capture)?;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        let columns: Vec<_> = exit.stdout.trim_end().split(' ').collect();
        assert_eq!(columns.len(), 14, "{name:?}: {}", exit.stdout);
        assert!(columns.iter().all(|column| !column.is_empty()), "{name:?}: {}", exit.stdout);
    }
    Ok(())
}
