//! The loaded programs, run by `BPF_PROG_TEST_RUN`: the kernel's verifier accepts them, and for
//! every packet of the corpus they give the same result as the parser on the host.
//!
//! Needs root. Uses only the kernel room of the daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail like a test")]

#[path = "../packets/mod.rs"]
mod packets;

mod cache;
mod flags;
mod generated;
mod loaded;
mod xdp;

use std::{net::IpAddr, thread, time::Duration};

use anyhow::Result;
use aya::programs::{TestRun, TestRunOptions};
use loaded::{INTERFACE, Load, Loaded, outcome};
use observer::{
    flow::InterfaceNumber,
    kernel::{
        Drain, Loader, LoaderOptions, Programs, Sizes, bpffs::PinDirectory, grace::Grace, preflight,
    },
    linux::clock,
};
use observer_ebpf::{
    abi::{Clock, Direction, LossReason, Note},
    packet::{Frame, Link},
};
use observer_tests::{need, requires};
use packets::{Input, Outcome, Sample, corpus, test_run::is_taken};

fn check(
    loaded: &mut Loaded,
    direction: Direction,
    sample: &Sample,
    input: &Input,
    expected: &Outcome,
) {
    let (flows, ledger) = loaded.count(direction, input);
    let bytes = &input.bytes;
    let place = format!("{} ({}, {} bytes)", sample.name, sample.about, bytes.len());
    assert_eq!(outcome(&flows, &ledger), *expected, "{place}");
    assert_eq!((ledger.frames, ledger.frame_bytes), (1, bytes.len() as u64), "{place}");
    let recorded = flows.iter().map(|flow| (flow.counters.packets, flow.counters.bytes));
    let lost = ledger.lost.iter().map(|loss| (loss.packets, loss.bytes));
    let sum = recorded.chain(lost).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!((ledger.packets, ledger.bytes), sum, "{place}: seen = recorded + lost");
    for flow in &flows {
        assert_eq!(flow.key.direction(), direction, "{place}");
        assert_eq!(flow.key.interface().get(), INTERFACE, "{place}");
    }
}

/// The packets of the corpus that a program can be run on.
fn samples() -> impl Iterator<Item = (Sample, Input)> {
    corpus().into_iter().map(|sample| (sample.input(), sample)).filter_map(|(input, sample)| {
        let Frame { link, tags_beside, .. } = input.frame;
        let is_taken = link == Link::Ethernet && tags_beside == 0 && !input.is_snapped();
        is_taken.then_some((sample, input))
    })
}

#[test]
fn programs_count_the_corpus_as_the_parser_does() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load::default());
    for (sample, input) in samples() {
        for direction in Direction::ALL.into_iter().filter(|_| is_taken(&input.bytes)) {
            check(&mut loaded, direction, &sample, &input, &sample.expect);
        }
    }
    Ok(())
}

#[test]
fn programs_count_cut_frames_as_the_parser_does() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load::default());
    for (sample, whole) in samples() {
        for len in
            (15..whole.bytes.len().min(140)).step_by(3).filter(|len| is_taken(&whole.bytes[..*len]))
        {
            let cut = whole.shortened(len);
            check(&mut loaded, Direction::Ingress, &sample, &cut, &cut.parsed());
        }
    }
    Ok(())
}

#[test]
fn later_fragments_belong_to_the_flow_of_their_first() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load::default());
    let sample =
        |name: &str| corpus().into_iter().find(|sample| sample.name == name).unwrap().input();
    for (first, later, id) in [
        (sample("ipv4_first_fragment"), sample("ipv4_later_fragment"), 18..20),
        (sample("ipv6_first_fragment"), sample("ipv6_later_fragment"), 58..62),
    ] {
        let mut later = later;
        let (flows, ledger) = loaded.count(Direction::Ingress, &later);
        assert_eq!(
            (flows[0].key.source_port(), ledger.notes[Note::LaterFragment as usize]),
            (0, 1),
            "no first"
        );

        let (first_flows, _) = loaded.count(Direction::Ingress, &first);
        later.bytes[id.clone()].copy_from_slice(&first.bytes[id]);
        let (flows, ledger) = loaded.count(Direction::Ingress, &later);
        assert_eq!(flows[0].key, first_flows[0].key);
        assert_eq!(ledger.notes, [0; Note::ALL.len()]);

        let (flows, _) = loaded.count(Direction::Egress, &later);
        assert_eq!(flows[0].key.source_port(), 0, "the other direction is another packet");
    }
    Ok(())
}

#[test]
fn programs_load_for_interfaces_without_ethernet() -> Result<()> {
    need!(requires::root());
    let _ = Loaded::new(Load { ethernet: false, ..Load::default() });
    Ok(())
}

#[test]
fn times_of_a_flow_are_those_of_its_packets() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load::default());
    let input = corpus().swap_remove(0).input();
    for pause in [0, 30, 300].map(Duration::from_millis) {
        let mut fits = || {
            let before = clock::unix_ms();
            loaded.send(Direction::Ingress, &input);
            let between = clock::unix_ms();
            thread::sleep(pause);
            let then = clock::unix_ms();
            loaded.send(Direction::Ingress, &input);
            let after = clock::unix_ms();
            let counters = loaded.flows()[0].counters;
            thread::sleep(pause);
            // A time is that of the last timer tick, up to 10 ms earlier, in milliseconds.
            let is_of = |ms, (from, to)| (from - 21..=to + 1).contains(&ms);
            let fits = is_of(counters.first_ms, (before, between))
                && is_of(counters.last_ms, (then, after));
            if !fits {
                println!("{before} to {between}, {then} to {after}: {counters:?}");
            }
            fits
        };
        // Timer ticks are late on a machine that is not scheduled, such as a busy guest.
        assert!((0..5).any(|_| fits()), "{pause:?} between two packets");
    }
    Ok(())
}

#[test]
fn a_flow_of_many_packets_is_one_entry_and_either_grace_period_is_waited_for() -> Result<()> {
    need!(requires::root());
    let mut loaded = Loaded::new(Load::default());
    let Input { bytes, .. } = corpus().swap_remove(0).input();
    for grace in [Grace::new().unwrap(), Grace::map_in_map().unwrap()] {
        grace.wait().unwrap();
        let options =
            TestRunOptions { data_in: Some(&bytes), repeat: 1000, ..TestRunOptions::new() };
        loaded.programs.get_mut(Direction::Egress).unwrap().test_run(options).unwrap();
        let flows = loaded.flows();
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].counters.packets, 1000);
        assert_eq!(flows[0].key.source(), IpAddr::from([10, 0, 0, 1]));
    }
    Ok(())
}

/// Runs an IPv4 UDP packet of each of these flows through the programs of an interface.
fn send(programs: &mut Programs, flows: std::ops::Range<u16>) {
    for flow in flows {
        let mut packet = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        packet.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(flow.to_be_bytes());
        packet.extend([0, 53, 0, 8, 0, 0]);
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::new() };
        programs.get_mut(Direction::Egress).unwrap().test_run(options).unwrap();
    }
}

/// An interface whose records must not suffer from the noise of [`INTERFACE`].
const QUIET: u16 = 8;

/// The maps are not read meanwhile, so the cache and the ring fill up.
#[test]
fn noise_of_an_interface_costs_its_neighbour_no_record() -> Result<()> {
    need!(requires::root());
    let directory = tempfile::tempdir()?;
    let pins = PinDirectory::create(&directory.path().join("pins"), directory.path())?;
    let sizes = Sizes::from_budget(2 << 20, preflight::possible_cpus())?;
    let mut loader =
        Loader::new(LoaderOptions { sizes, log_level: 0, clock: Clock::Ticks }, pins.path())?;
    let (mut noisy, mut quiet) = (loader.load(INTERFACE, true)?, loader.load(QUIET, true)?);
    let mut drain = Drain::new(&mut noisy, sizes, Grace::new()?)?;
    drain.share_among(2);

    // Test runs stay on this CPU, which has its own part of the cache; the ring takes at most this
    // many.
    let each = (sizes.flows() / u64::from(sizes.cpus) + u64::from(sizes.ring_bytes) / 64) as u16;
    send(&mut noisy, 0..each);
    send(&mut quiet, 0..100);
    send(&mut noisy, each..2 * each);

    let mut recorded = [0; 2];
    drain.drain(|_, delta| {
        recorded[usize::from(delta.key.interface().get() == QUIET)] += delta.counters.packets;
    })?;
    let lost = |interface| {
        drain.ledger(InterfaceNumber::new(interface))[Direction::Egress as usize].lost
            [LossReason::TableFull as usize]
            .packets
    };
    assert_eq!((recorded[1], lost(QUIET)), (100, 0), "the neighbour");
    assert_eq!(recorded[0] + lost(INTERFACE), u64::from(2 * each), "the noise");
    assert!(lost(INTERFACE) > u64::from(each) / 2, "{} of {each} lost", lost(INTERFACE));
    Ok(())
}
