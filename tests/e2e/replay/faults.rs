//! Files that are truncated, damaged, empty or of another kind, and hosts that lack a requirement.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::Result;
use observer_tests::{
    capture::{Description, ETHERNET, Order, Packet, pcap, pcapng},
    daemon::command,
    lab,
    lab::Lab,
    traffic::frames,
};

use super::{BEGIN, SECOND, attempt, attempt_file, fed, replay, run};

const LOCAL: [&str; 2] = ["--local", "10.9.0.1"];

fn packets(count: u64) -> Vec<Packet> {
    let packet =
        frames::Ipv4::new([10, 9, 0, 1].into(), frames::protocol::UDP, frames::udp(7, 8, 30));
    (0..count).map(|number| Packet::new((BEGIN + number) * SECOND, packet.frame())).collect()
}

/// A file truncated at any byte: complete packets are recorded, and the end is reported.
#[test]
fn a_cut_file_is_recorded_up_to_the_cut() -> Result<()> {
    let lab = lab!();
    for (whole, header, each) in [
        (pcap(Order::Little, ETHERNET, false, &packets(3)), 24, 16 + 72),
        (pcapng(Order::Big, &[Description::new("eth0")], &packets(3)), 28 + 20 + 8, 32 + 72),
    ] {
        assert_eq!(whole.len(), header + 3 * each);
        for missing in [1, 5, 71, 73, each - 1, each, each + 1, 2 * each + 3] {
            let replayed = attempt(&lab, &whole[..whole.len() - missing], &LOCAL)?;
            let left = 3 - missing.div_ceil(each);
            let recorded: u64 =
                replayed.records.all.iter().map(|record| record.tally.packets).sum();
            assert_eq!(recorded, left as u64, "{missing} bytes are missing");
            let expected = i32::from(missing % each != 0);
            let said = &replayed.exit.stderr;
            assert_eq!(
                replayed.exit.status.code(),
                Some(expected),
                "{missing} bytes are missing: {said}"
            );
            if expected != 0 {
                let place = format!("at byte {}, behind packet {left}", header + left * each);
                assert!(said.contains(&place), "{said}, not {place}");
                assert_eq!(said.lines().count(), 2, "a report and an error: {said}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_broken_file_is_recorded_up_to_the_break() -> Result<()> {
    let lab = lab!();
    let legacy = pcap(Order::Little, ETHERNET, false, &packets(3));
    let mut huge = legacy.clone();
    huge[24 + 88 + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let ng = pcapng(Order::Little, &[Description::new("eth0")], &packets(3));
    let second = 56 + 104;
    let spoilt = |at: usize, value: u32| {
        let mut file = ng.clone();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        file
    };
    for (capture, word) in [
        (huge, "4294967295 bytes"),
        (spoilt(second + 4, 3), "3 bytes"),
        (spoilt(second + 4, u32::MAX - 3), "bytes"),
        (spoilt(second + 8, 5), "interface 5"),
        (spoilt(second + 20, 10_000), "block"),
        (spoilt(second + 100, 7), "block"),
    ] {
        let replayed = attempt(&lab, &capture, &LOCAL)?;
        let said = &replayed.exit.stderr;
        assert_eq!(replayed.exit.status.code(), Some(1), "{word}: {said}");
        assert!(said.contains(word) && said.contains("behind packet 1"), "{word}: {said}");
        let recorded: u64 = replayed.records.all.iter().map(|record| record.tally.packets).sum();
        assert_eq!(recorded, 1, "{word}");
    }
    Ok(())
}

#[test]
fn an_empty_capture_has_no_records() -> Result<()> {
    let lab = lab!();
    for capture in [
        pcap(Order::Big, ETHERNET, true, &[]),
        pcapng(Order::Little, &[], &[]),
        pcapng(Order::Little, &[Description::new("eth0")], &[]),
    ] {
        let replayed = replay(&lab, &capture, &LOCAL)?;
        assert_eq!((replayed.count("packets"), replayed.records.all.len()), (0, 0));
    }
    Ok(())
}

/// Asserts exit code `code` and one line that contains `word`.
fn refused(code: i32, word: &str, exit: &observer_tests::daemon::Exit) {
    assert_eq!(exit.status.code(), Some(code), "{}", exit.stderr);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    assert!(
        exit.stderr.starts_with("observer: ") && exit.stderr.contains(word),
        "{word}: {}",
        exit.stderr
    );
    assert_eq!(exit.stdout, "");
}

fn command_with(lab: &Lab, capture: &[u8], args: &[&str]) -> Result<Command> {
    let file = lab.path("capture");
    fs::write(&file, capture)?;
    let mut command = command()?;
    command.arg("replay").arg(file).args(args);
    Ok(command)
}

#[test]
fn wrong_usage_is_one_line() -> Result<()> {
    const USAGE: i32 = 2;
    let lab = lab!();
    let capture = pcap(Order::Little, ETHERNET, false, &packets(1));
    let with = |capture: &[u8], args: &[&str]| run(&mut command_with(&lab, capture, args)?);
    refused(USAGE, "--local-mac", &with(&capture, &[])?);
    refused(USAGE, "begins with 23 21", &with(b"#!/bin/sh", &LOCAL)?);
    refused(USAGE, "is empty", &with(b"", &LOCAL)?);
    refused(USAGE, "within its header", &with(&capture[..23], &LOCAL)?);
    refused(USAGE, "begins with a1", &with(&[0xa1], &LOCAL)?);
    refused(USAGE, "`zcat`", &with(&[0x1f, 0x8b, 8, 0, 0], &LOCAL)?);
    refused(USAGE, "`xzcat`", &with(b"\xfd7zXZ\0", &LOCAL)?);
    refused(USAGE, "nowhere", &run(command()?.args(["replay", "/nowhere"]).args(LOCAL))?);
    refused(USAGE, "directory", &run(command()?.args(["replay", "/"]).args(LOCAL))?);
    refused(USAGE, "FILE", &run(command()?.arg("replay"))?);
    refused(USAGE, "USB_LINUX", &with(&pcap(Order::Little, 189, false, &packets(1)), &LOCAL)?);
    refused(
        USAGE,
        "link type 147 (USER0)",
        &with(&pcap(Order::Little, 147, false, &packets(1)), &LOCAL)?,
    );
    for (flag, value) in [
        ("--local", "10.0.0.0/33"),
        ("--local", "home"),
        ("--local-mac", "02:00"),
        ("--mtu", "0"),
        ("--mtu", "65536"),
        ("--window", "0"),
    ] {
        refused(USAGE, flag, &with(&capture, &[flag, value])?);
    }
    refused(USAGE, "--local-mac", &with(&capture, &["--tasks-file", "/nowhere"])?);
    let tasks = ["--local-mac", "02:00:00:00:00:01", "--tasks-file", "/nowhere"];
    refused(USAGE, "/nowhere", &with(&capture, &tasks)?);
    refused(
        USAGE,
        "--output-dir",
        &with(&capture, &["--local", "10.9.0.1", "--output-dir", "/proc/nowhere"])?,
    );
    Ok(())
}

#[test]
fn without_privilege_the_host_cannot_run_it() -> Result<()> {
    const HOST: i32 = 3;
    const NOBODY: u32 = 65_534;
    let lab = lab!();
    let capture = pcap(Order::Little, ETHERNET, false, &packets(1));
    let mut command = command()?;
    command.args(["replay", "-"]).args(LOCAL).uid(NOBODY).gid(NOBODY);
    refused(HOST, "CAP_", &fed(&mut command, &capture)?);
    drop(lab);
    Ok(())
}

#[test]
fn replays_at_the_same_time_do_not_meet() -> Result<()> {
    let lab = lab!();
    let capture = pcap(Order::Little, ETHERNET, false, &packets(20_000));
    let file = lab.path("capture");
    fs::write(&file, capture)?;
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (0..3).map(|_| scope.spawn(|| attempt_file(&lab, &file, &LOCAL))).collect();
        for other in others {
            let replayed = other.join().map_err(|_| anyhow::anyhow!("a replay panicked"))??;
            assert_eq!(replayed.count("recorded.packets"), 20_000, "{}", replayed.exit.stderr);
        }
        Ok(())
    })
}
