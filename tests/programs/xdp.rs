//! The XDP programs: the same counts as with TC from the same packets, linear or not.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::Result;
use aya::programs::{TestRun as _, TestRunOptions};
use observer::{
    flow::Delta,
    kernel::{Programs, XdpMode, XdpPlan},
};
use observer_ebpf::abi::{Direction, Ledger, LossReason, NonIpKind, Note};
use observer_tests::{need, requires};

use super::{Outcome, check, samples};
use crate::{
    generated::stamp,
    loaded::{INTERFACE, Load, Loaded, outcome},
    packets::{
        Input, Sample,
        effort::Effort,
        generator::{Generator, Kind},
        test_run::is_taken,
    },
};

const XDP_PASS: u32 = 2;
const MARK_LEN: usize = 4;
/// Minimum length of a test run.
const LINK_HEADER: usize = 14;

const PLANS: [XdpPlan; 3] = [
    XdpPlan { mode: XdpMode::Native, companion: false },
    XdpPlan { mode: XdpMode::Native, companion: true },
    XdpPlan { mode: XdpMode::Generic, companion: true },
];

/// The parser's result for a frame whose segments XDP does not see.
fn parsed(bytes: &[u8]) -> Outcome {
    Input::whole(bytes.to_vec()).parsed()
}

/// The frames of the corpus that XDP can be run on.
fn frames() -> impl Iterator<Item = (Sample, Vec<u8>)> {
    samples()
        .map(|(sample, input)| (sample, input.bytes))
        .filter(|(_, bytes)| bytes.len() >= LINK_HEADER)
}

/// Counts during `run`.
fn counted(loaded: &mut Loaded, run: impl FnOnce(&mut Programs)) -> (Vec<Delta>, Ledger) {
    let before = loaded.ledger(Direction::Ingress);
    run(&mut loaded.programs);
    (loaded.flows(), loaded.ledger(Direction::Ingress).since(&before))
}

fn loaded(plan: XdpPlan) -> Loaded {
    Loaded::by(Load::default(), |loader| loader.load_xdp(INTERFACE, plan))
}

/// Runs a program on a packet with `linear` bytes in the first buffer.
fn send(programs: &mut Programs, bytes: &[u8], linear: Option<usize>) {
    let mut out = vec![0; bytes.len() + MARK_LEN];
    let context = linear.map(|linear| {
        // struct xdp_md: data, data_end
        let mut context = [0_u8; 24];
        context[4..8].copy_from_slice(&(linear as u32).to_ne_bytes());
        context
    });
    let options = TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut out),
        ctx_in: context.as_ref().map(|context| &context[..]),
        ..TestRunOptions::new()
    };
    let result = programs.xdp_mut().unwrap().test_run(options);
    let result =
        result.unwrap_or_else(|error| panic!("{} bytes, {linear:?}: {error}", bytes.len()));
    assert_eq!(result.return_value, XDP_PASS);
    let written = &out[..result.data_size_out as usize];
    assert!(written.ends_with(bytes), "the packet is another one behind the program");
}

/// Addresses, protocol and ports.
type Flow = (IpAddr, IpAddr, u8, u16, u16);

/// The sums of several packets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    frames: (u64, u64),
    flows: BTreeMap<Flow, (u64, u64)>,
    lost: BTreeMap<&'static str, (u64, u64)>,
    non_ip: BTreeMap<&'static str, u64>,
    notes: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn expect(&mut self, outcome: &Outcome) {
        match *outcome {
            Outcome::Flow {
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                packets,
                bytes,
                note,
                ..
            } => {
                let key = (source, destination, protocol, source_port, destination_port);
                let flow = self.flows.entry(key).or_default();
                *flow = (flow.0 + packets, flow.1 + bytes);
                if let Some(note) = note {
                    *self.notes.entry(note.as_str()).or_default() += 1;
                }
            }
            Outcome::Lost { reason, packets, bytes } => {
                let lost = self.lost.entry(reason.as_str()).or_default();
                *lost = (lost.0 + packets, lost.1 + bytes);
            }
            Outcome::NonIp { kind } => *self.non_ip.entry(kind.as_str()).or_default() += 1,
        }
    }

    fn counted(flows: &[Delta], ledger: &Ledger) -> Self {
        let mut totals = Self { frames: (ledger.frames, ledger.frame_bytes), ..Self::default() };
        for Delta { key, counters } in flows {
            let key = (
                key.source(),
                key.destination(),
                key.protocol(),
                key.source_port(),
                key.destination_port(),
            );
            let flow = totals.flows.entry(key).or_default();
            *flow = (flow.0 + counters.packets, flow.1 + counters.bytes);
        }
        for reason in LossReason::ALL {
            let loss = ledger.lost[reason as usize];
            if loss.packets != 0 {
                totals.lost.insert(reason.as_str(), (loss.packets, loss.bytes));
            }
        }
        let some = |count: u64| (count != 0).then_some(count);
        totals.non_ip = NonIpKind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind.as_str(), some(ledger.non_ip[kind as usize])?)))
            .collect();
        totals.notes = Note::ALL
            .into_iter()
            .filter_map(|note| Some((note.as_str(), some(ledger.notes[note as usize])?)))
            .collect();
        totals
    }
}

#[test]
fn xdp_counts_the_corpus_as_the_parser_does() -> Result<()> {
    need!(requires::root());
    for plan in PLANS {
        let mut loaded = loaded(plan);
        for (sample, bytes) in frames() {
            let (flows, ledger) = counted(&mut loaded, |programs| send(programs, &bytes, None));
            let place = format!("{plan:?}, {} ({})", sample.name, sample.about);
            assert_eq!(outcome(&flows, &ledger), parsed(&bytes), "{place}");
            assert_eq!((ledger.frames, ledger.frame_bytes), (1, bytes.len() as u64), "{place}");
        }
    }
    Ok(())
}

#[test]
fn xdp_counts_a_frame_cut_anywhere_as_the_parser_does() -> Result<()> {
    need!(requires::root());
    for plan in PLANS {
        let mut loaded = loaded(plan);
        for (sample, whole) in frames() {
            let mut expected = Totals::default();
            let (flows, ledger) = counted(&mut loaded, |programs| {
                for len in LINK_HEADER..=whole.len() {
                    send(programs, &whole[..len], None);
                    expected.frames = (expected.frames.0 + 1, expected.frames.1 + len as u64);
                    expected.expect(&parsed(&whole[..len]));
                }
            });
            assert_eq!(Totals::counted(&flows, &ledger), expected, "{plan:?}, {}", sample.name);
        }
    }
    Ok(())
}

#[test]
fn xdp_counts_generated_packets_as_the_parser_does() -> Result<()> {
    /// Packets between two readings of the flows.
    const BATCH: u64 = 4096;
    need!(requires::root());
    let Effort { inputs, seed } = Effort::or(100_000, fastrand::u64(..));
    println!("{inputs} packets, seed {seed}");
    let mut loaded = loaded(PLANS[1]);
    let mut generator = Generator::new(Kind::Ethernet, seed);
    for batch in 0..inputs.div_ceil(BATCH) {
        let mut expected = Totals::default();
        let (flows, ledger) = counted(&mut loaded, |programs| {
            for number in batch * BATCH..(batch + 1) * BATCH {
                let mut input = generator.input(number);
                stamp(&mut input, number);
                let bytes = &input.bytes;
                if bytes.len() < LINK_HEADER {
                    continue;
                }
                send(programs, bytes, None);
                expected.frames = (expected.frames.0 + 1, expected.frames.1 + bytes.len() as u64);
                expected.expect(&parsed(bytes));
            }
        });
        assert_eq!(Totals::counted(&flows, &ledger), expected, "seed {seed}, batch {batch}");
    }
    Ok(())
}

#[test]
fn xdp_counts_a_frame_in_several_buffers_as_the_parser_does() -> Result<()> {
    need!(requires::root());
    // test runs with a chosen size of the first buffer
    need!(requires::linux(6, 18));
    let mut loaded = loaded(PLANS[1]);
    for (sample, bytes) in frames().filter(|(_, bytes)| bytes.len() > LINK_HEADER) {
        let mut expected = Totals::default();
        let (flows, ledger) = counted(&mut loaded, |programs| {
            for linear in LINK_HEADER..bytes.len() {
                send(programs, &bytes, Some(linear));
                expected.frames = (expected.frames.0 + 1, expected.frames.1 + bytes.len() as u64);
                expected.expect(&parsed(&bytes));
            }
        });
        assert_eq!(Totals::counted(&flows, &ledger), expected, "{}", sample.name);
        // The first buffer ends inside the header behind the Ethernet header.
        assert_ne!(ledger.copied, 0, "{}", sample.name);
    }
    Ok(())
}

#[test]
fn what_has_no_mark_is_counted_behind_xdp() -> Result<()> {
    need!(requires::root());
    for plan in PLANS.into_iter().filter(|plan| plan.companion) {
        let mut loaded = Loaded::by(Load::default(), |loader| loader.load_xdp(INTERFACE, plan));
        for (sample, input) in samples().filter(|(_, input)| is_taken(&input.bytes)) {
            for direction in Direction::ALL {
                check(&mut loaded, direction, &sample, &input, &sample.expect);
            }
        }
    }
    Ok(())
}
