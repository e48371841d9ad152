//! The packet path, by `BPF_PROG_TEST_RUN`: nanoseconds per packet of the whole real program and of an empty one.

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions};
use observer::kernel::{
    Drain, Loader, Programs, Sizes, bpffs::PinDirectory, grace::Grace, object::LoaderOptions, preflight,
};
use observer_ebpf::abi::names;

use crate::report::Report;

const REPEAT: u32 = 1_000_000;
const ROUNDS: usize = 9;

/// A packet of each shape that matters, with the target for its cost over an empty program.
fn packets() -> Vec<(&'static str, Vec<u8>, Option<f64>)> {
    vec![
        ("IPv4 TCP, one flow", ipv4_tcp(), Some(2.5)),
        ("IPv6 TCP, one flow", ipv6(6, &[]), None),
        (
            "IPv6 TCP behind 3 extension headers",
            ipv6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0], &[43, 0, 1, 4, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0]]),
            None,
        ),
        ("ARP", arp(), None),
    ]
}

pub(crate) fn run() -> Result<Report> {
    // Dropped in reverse: the mount that the pins may need goes before its folder.
    let directory = tempfile::tempdir()?;
    let pins = PinDirectory::create(&directory.path().join("pins"), directory.path())?;
    let sizes = Sizes::from_budget(64 << 20, preflight::possible_cpus())?;
    let mut loader = Loader::new(LoaderOptions { sizes, log_level: 0, precise_clock: false }, pins.path())?;
    let mut programs = loader.load(1, true)?;
    let _drain = Drain::new(&mut programs, sizes, Grace::new()?)?;
    programs.classifier(names::EMPTY)?.load()?;
    let info = programs.classifier(names::OBSERVE_INGRESS)?.info()?;
    println!(
        "{}: {} bytes, {} instructions verified\n",
        names::OBSERVE_INGRESS,
        info.size_translated().unwrap_or(0),
        info.verified_instruction_count().unwrap_or(0)
    );

    let mut report = Report::default();
    for (name, packet, target) in packets() {
        let (mut whole, mut empty) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            empty.push(time(&mut programs, names::EMPTY, &packet)?);
            whole.push(time(&mut programs, names::OBSERVE_INGRESS, &packet)?);
        }
        report.row(name, "ns", &whole, &empty, target);
    }
    Ok(report)
}

fn time(programs: &mut Programs, name: &'static str, packet: &[u8]) -> Result<f64> {
    let program = programs.classifier(name)?;
    let result = program
        .test_run(TestRunOptions { data_in: Some(packet), repeat: REPEAT, ..TestRunOptions::new() })
        .with_context(|| format!("running {name}"))?;
    Ok(result.duration.as_nanos() as f64)
}

fn ethernet(ether_type: u16) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    packet.extend(ether_type.to_be_bytes());
    packet
}

fn tcp() -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    header[12] = 0x50;
    header[13] = 0x10;
    header
}

fn ipv4_tcp() -> Vec<u8> {
    let mut packet = ethernet(0x0800);
    packet.extend([0x45, 0, 0, 50, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(tcp());
    packet.resize(64, 0);
    packet
}

fn ipv6(next: u8, extensions: &[&[u8]]) -> Vec<u8> {
    let mut payload = extensions.concat();
    payload.extend(tcp());
    let mut packet = ethernet(0x86dd);
    packet.extend([0x60, 0, 0, 0, 0, payload.len() as u8, next, 64]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet.extend(payload);
    packet
}

fn arp() -> Vec<u8> {
    let mut packet = ethernet(0x0806);
    packet.resize(60, 0);
    packet
}
