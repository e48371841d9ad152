//! The packet path by `BPF_PROG_TEST_RUN`, in nanoseconds per packet: the product's program
//! compared with an empty one, and with a variant that uses a per-CPU hash map.

use anyhow::{Result, ensure};
use observer::flow::InterfaceNumber;
use observer_ebpf::abi::names;

use crate::{
    packets::{arp, ipv4_tcp, ipv6},
    place::{FLOW_MEMORY, Place, Reader, bench_object, pin, time},
    report::{Report, Target},
};

const REPEAT: u32 = 1_000_000;
const ROUNDS: usize = 9;

pub(crate) fn run() -> Result<Report> {
    pin(0)?;
    let mut report = Report::default();
    hot(&mut report)?;
    steps(&mut report)?;
    for (name, flow_mask, target) in FLOWS {
        live_flows(&mut report, name, flow_mask, target)?;
    }
    interfaces(&mut report)?;
    Ok(report)
}

/// A packet of each important shape, with the target for its cost above an empty program.
fn packets() -> [(&'static str, Vec<u8>, Option<Target>); 4] {
    let extensions: [&[u8]; 3] =
        [&[60, 0, 1, 4, 0, 0, 0, 0], &[43, 0, 1, 4, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0]];
    [
        ("IPv4 TCP, one flow", ipv4_tcp(), Some(Target::Ratio(2.2))),
        ("IPv6 TCP, one flow", ipv6(6, &[]), Some(Target::Ratio(2.3))),
        ("IPv6 TCP behind 3 extension headers", ipv6(0, &extensions), Some(Target::Ratio(4.0))),
        ("ARP", arp(), None),
    ]
}

fn hot(report: &mut Report) -> Result<()> {
    let mut place = Place::new(FLOW_MEMORY)?;
    let mut programs = place.loader.load(1, true)?;
    let _drain = place.drain(&mut programs)?;
    programs.classifier(names::EMPTY)?.load()?;
    let info = programs.classifier(names::OBSERVE_INGRESS)?.info()?;
    println!(
        "{}: {} bytes, {} instructions verified\n",
        names::OBSERVE_INGRESS,
        info.size_translated().unwrap_or(0),
        info.verified_instruction_count().unwrap_or(0)
    );
    for (name, packet, target) in packets() {
        let (mut whole, mut empty) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            empty.push(time(&mut programs, names::EMPTY, &packet, REPEAT)?);
            whole.push(time(&mut programs, names::OBSERVE_INGRESS, &packet, REPEAT)?);
        }
        report.row(format!("{name} · empty program"), "ns", &whole, &empty, target);
    }
    Ok(())
}

/// The cost of a plain packet by steps: each step includes all before it.
fn steps(report: &mut Report) -> Result<()> {
    const SAID: [&str; 5] =
        ["empty program", "+ headers parsed", "+ ledger", "+ clock", "+ flow cache: all"];
    let mut place = Place::new(FLOW_MEMORY)?;
    place.loader.replace_object(bench_object()?);
    let mut programs = place.loader.load(1, true)?;
    let names = [&[names::EMPTY][..], &names::STEPS, &[names::OBSERVE_INGRESS]].concat();
    for name in &names[..names.len() - 1] {
        programs.classifier(name)?.load()?;
    }
    let _drain = place.drain(&mut programs)?;
    let mut rounds = SAID.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (name, rounds) in names.iter().zip(&mut rounds) {
            rounds.push(time(&mut programs, name, &ipv4_tcp(), REPEAT)?);
        }
    }
    for (step, (said, figures)) in SAID.iter().zip(&rounds).enumerate().skip(1) {
        report.row(format!("{said} · {}", SAID[step - 1]), "ns", figures, &rounds[step - 1], None);
    }
    Ok(())
}

/// Numbers of flows in random order, with the target for the cost relative to the hash map.
const FLOWS: [(&str, u32, Option<Target>); 4] = [
    ("one flow", 0, None),
    ("1,024 live flows", (1 << 10) - 1, None),
    ("65,536 live flows", (1 << 16) - 1, Some(Target::Ratio(0.6))),
    ("1,048,576 live flows", (1 << 20) - 1, Some(Target::Ratio(0.3))),
];

fn live_flows(
    report: &mut Report,
    name: &str,
    flow_mask: u32,
    target: Option<Target>,
) -> Result<()> {
    let mut place = Place::new(FLOW_MEMORY)?;
    let flow_mask: &'static u32 = Box::leak(Box::new(flow_mask));
    place
        .loader
        .replace_object(bench_object()?)
        .override_global(names::FLOW_MASK, flow_mask, true)
        // at the maximum load of a hash map
        .map_max_entries(names::TWIN, *flow_mask + 1);
    let mut programs = place.loader.load(1, true)?;
    for name in [names::VARIED_CACHE, names::VARIED_HASH] {
        programs.classifier(name)?.load()?;
    }
    let reader = Reader::start(place.drain(&mut programs)?);
    let packet = ipv4_tcp();
    // until the hash map holds all flows
    time(&mut programs, names::VARIED_HASH, &packet, 16 * *flow_mask + REPEAT)?;
    let (mut cache, mut hash) = (Vec::new(), Vec::new());
    time(&mut programs, names::VARIED_CACHE, &packet, REPEAT)?;
    for _ in 0..ROUNDS {
        cache.push(time(&mut programs, names::VARIED_CACHE, &packet, REPEAT)?);
        hash.push(time(&mut programs, names::VARIED_HASH, &packet, REPEAT)?);
    }
    let (drain, recorded) = reader.finish()?;
    let ledgers = drain.ledger(InterfaceNumber::new(1));
    let lost: u64 = ledgers.iter().flat_map(|ledger| ledger.lost).map(|loss| loss.packets).sum();
    let sent = (ROUNDS as u64 + 1) * u64::from(REPEAT);
    ensure!(
        recorded + lost == sent,
        "{sent} packets were sent, {recorded} recorded and {lost} lost"
    );
    let spilled = ledgers[0].spilled as f64 / sent as f64 * 100.0;
    let lost = lost as f64 / sent as f64 * 100.0;
    println!("{name}: {spilled:.1} % of the packets spilled an entry, {lost:.1} % were lost");
    report.row(format!("{name} · per-CPU hash map"), "ns", &cache, &hash, target);
    Ok(())
}

/// The same packet on many interfaces in turn, compared with one interface.
fn interfaces(report: &mut Report) -> Result<()> {
    const INTERFACES: u16 = 120;
    const EACH: u32 = REPEAT / INTERFACES as u32;
    let mut place = Place::new(FLOW_MEMORY)?;
    let packet = ipv4_tcp();
    let mut all = Vec::new();
    let (mut alone, mut many) = (Vec::new(), Vec::new());
    let mut first = place.loader.load(1, true)?;
    let _drain = place.drain(&mut first)?;
    for number in 2..=INTERFACES {
        all.push(place.loader.load(number, true)?);
    }
    for _ in 0..ROUNDS {
        alone.push(time(&mut first, names::OBSERVE_INGRESS, &packet, REPEAT)?);
        let mut sum = 0.0;
        for programs in &mut all {
            sum += time(programs, names::OBSERVE_INGRESS, &packet, EACH)?;
        }
        many.push(sum / all.len() as f64);
    }
    report.row(
        "120 interfaces in turn · 1 interface",
        "ns",
        &many,
        &alone,
        Some(Target::Ratio(1.1)),
    );
    Ok(())
}
