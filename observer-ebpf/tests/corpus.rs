//! The parser on the corpus of packets.

#[path = "../../tests/packets/mod.rs"]
mod packets;

use packets::{Outcome, corpus, reference};

#[test]
fn every_packet_of_the_corpus_comes_to_what_it_must() {
    let corpus = corpus();
    assert!(corpus.len() > 70);
    for sample in &corpus {
        let input = sample.input();
        assert_eq!(input.parsed(), sample.expect, "{}: {}", sample.name, sample.about);
        assert_eq!(
            reference::read(&input).outcome,
            sample.expect,
            "{}, by the second parser",
            sample.name
        );
    }
}

#[test]
fn a_frame_cut_anywhere_is_counted_and_never_misread() {
    for sample in corpus() {
        let whole = sample.input();
        for len in 0..whole.bytes.len() {
            match (whole.shortened(len).parsed(), &sample.expect) {
                // A truncated packet must agree with the whole one in every field that it still
                // has.
                (
                    Outcome::Flow { source, destination, source_port, destination_port, .. },
                    Outcome::Flow {
                        source: s,
                        destination: d,
                        source_port: sp,
                        destination_port: dp,
                        ..
                    },
                ) => {
                    assert_eq!((&source, &destination), (s, d), "{} cut at {len}", sample.name);
                    let ports = (source_port, destination_port);
                    assert!(
                        ports == (0, 0) || ports == (*sp, *dp),
                        "{} cut at {len}: {ports:?}",
                        sample.name
                    );
                }
                (Outcome::Flow { .. }, whole) => {
                    panic!("{} cut at {len} is a flow, whole {whole:?}", sample.name)
                }
                (Outcome::Lost { packets, .. }, _) => assert!(packets >= 1),
                (Outcome::NonIp { .. }, _) => {}
            }
        }
    }
}

#[test]
fn names_of_the_corpus_are_unique() {
    let mut names: Vec<_> = corpus().into_iter().map(|sample| sample.name).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}
