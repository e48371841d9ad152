//! The parser compared with tshark: both must agree about every packet.
//!
//! Needs tshark, and neither root nor a network.

#![allow(clippy::panic, reason = "a test's helpers fail like a test")]

mod agreement;
mod pcap;
mod tshark;

#[path = "../packets/mod.rs"]
mod packets;

use std::collections::BTreeMap;

use agreement::{Reason, agree};
use anyhow::Result;
use observer_ebpf::packet::{Link, Offload};
use observer_tests::{need, requires};
use packets::{
    Input, corpus,
    effort::Effort,
    generator::{Generator, Kind},
};
use tshark::dissect;

/// Longer prefixes are not tested, because all headers end before.
const LAST_CUT: usize = 400;

/// Number of frames in one run of tshark.
const BATCH: usize = 20_000;

/// Number of uses of each reason.
type Reasons = BTreeMap<Reason, usize>;

/// A packet as it would be in a capture file of Ethernet frames: with all tags in the frame. `None`
/// for super-packets, which such a file cannot describe.
fn captured(mut input: Input) -> Option<Input> {
    (input.frame.offload, input.frame.tags_beside) = (Offload { size: 0, segments: 0 }, 0);
    (input.frame.link == Link::Ethernet).then_some(input)
}

/// Frames of the corpus.
fn frames() -> Vec<(String, Input)> {
    let samples = corpus().into_iter();
    samples.filter_map(|sample| Some((sample.name.clone(), captured(sample.input())?))).collect()
}

/// Each frame, truncated at every byte by `cut`.
fn cuts(cut: fn(&Input, usize) -> Input) -> Vec<(String, Input)> {
    let cuts = |(name, input): (String, Input)| {
        let lengths = 0..input.bytes.len().min(LAST_CUT);
        lengths
            .map(move |len| (format!("{name} cut at {len}"), cut(&input, len)))
            .collect::<Vec<_>>()
    };
    frames().into_iter().flat_map(cuts).collect()
}

/// Compares all frames.
fn compare(frames: &[(String, Input)], reasons: &mut Reasons) -> Result<()> {
    let tshark = requires::program("tshark").map_err(|missing| anyhow::anyhow!("{missing}"))?;
    let dissections = dissect(&tshark, frames.iter().map(|(_, input)| input))?;
    assert_eq!(dissections.len(), frames.len(), "tshark passes no frame over");
    let mut disagreements = Vec::new();
    for ((name, input), theirs) in frames.iter().zip(&dissections) {
        match agree(input, theirs) {
            Ok(needed) => {
                for reason in needed {
                    *reasons.entry(reason).or_insert(0) += 1;
                }
            }
            Err(disagreement) => {
                disagreements.push(format!("{name}: {disagreement}\n{input}\n{theirs:?}\n"));
            }
        }
    }
    let count = disagreements.len();
    disagreements.truncate(10);
    assert!(count == 0, "{count} of {} disagree:\n{}", frames.len(), disagreements.join("\n"));
    Ok(())
}

#[test]
fn the_corpus_is_what_tshark_says_whole_and_cut_at_every_byte() -> Result<()> {
    need!(requires::program("tshark"));
    let mut reasons = Reasons::new();
    compare(&frames(), &mut reasons)?;
    for cut in [Input::shortened as fn(&Input, usize) -> Input, Input::snapped] {
        compare(&cuts(cut), &mut reasons)?;
    }
    for reason in Reason::ALL {
        assert!(reasons.contains_key(&reason), "{reason:?} was never needed");
    }
    println!("{reasons:?}");
    Ok(())
}

/// With a fixed seed by default: over millions of malformed packets tshark shows further
/// peculiarities.
#[test]
fn generated_packets_are_what_tshark_says() -> Result<()> {
    need!(requires::program("tshark"));
    let Effort { inputs, seed } = Effort::or(60_000, 1);
    println!("{inputs} packets, seed {seed}");
    let mut generator = Generator::new(Kind::Any, seed);
    let mut reasons = Reasons::new();
    for first in (0..inputs).step_by(BATCH) {
        let numbers = first..inputs.min(first + BATCH as u64);
        let frames = numbers.filter_map(|number| {
            Some((format!("seed {seed}, packet {number}"), captured(generator.input(number))?))
        });
        compare(&frames.collect::<Vec<_>>(), &mut reasons)?;
    }
    println!("{reasons:?}");
    Ok(())
}
