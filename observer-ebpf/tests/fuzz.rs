//! The parser on generated packets: it must agree with a second parser and keep the invariants that
//! the programs rely on.

#[path = "../../tests/packets/mod.rs"]
mod packets;

use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use observer_ebpf::{
    abi::{LossReason, NonIpKind, Note},
    packet::{Frame, Link, Packet, PacketBytes, Part, Skip, parse, parse_plain},
};
use packets::{
    Input, Outcome,
    effort::Effort,
    generator::{Generator, Kind},
    reference::{self, Fragment},
    smallest::smallest,
};

/// A reader that follows no chains, like that of the interface programs.
struct InPlace<'a>(&'a [u8]);

impl PacketBytes for InPlace<'_> {
    const FOLLOWS_CHAINS: bool = false;

    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        self.0.at(offset)
    }
}

/// Describes the parser's mistake on a packet; `None` if it is right.
fn mistake(input: &Input) -> Option<String> {
    let expected = reference::read(input);
    let parsed = parse(&input.bytes[..], input.frame);
    let outcome = Outcome::of(&parsed);
    if outcome != expected.outcome {
        return Some(format!("the parser says {{ {outcome} }}"));
    }
    let part = parsed.map_or(Part::Whole, |packet| packet.fragment.part);
    let expected_part = match expected.fragment {
        Fragment::None => Part::Whole,
        Fragment::First { .. } => Part::First,
        Fragment::Later => Part::Later,
    };
    if part != expected_part {
        return Some(format!(
            "the parser takes it for {part:?}, the other one for {expected_part:?}"
        ));
    }
    let law = match parsed {
        Ok(packet) => broken_law(&packet, input.frame),
        Err(Skip::Lost(_, wire)) if wire.packets == 0 => Some("a lost packet is at least one"),
        Err(_) => None,
    };
    law.map(str::to_owned).or_else(|| shortcut(input, parsed.ok()))
}

/// An invariant of all packets that this one violates.
fn broken_law(packet: &Packet, frame: Frame) -> Option<&'static str> {
    let Packet { wire, fragment, note, .. } = *packet;
    let ports = packet.source_port_be | packet.destination_port_be;
    let laws = [
        (wire.packets >= 1, "a flow has packets"),
        (wire.bytes >= 20 * u64::from(wire.packets), "each has an IP header"),
        (frame.offload.size != 0 || wire.packets == 1, "only super-packets are several"),
        (
            frame.offload.size != 0 || wire.bytes <= frame.len.into(),
            "no packet is longer than its frame",
        ),
        (packet.tcp_flags == 0 || packet.protocol == 6, "only TCP has flags"),
        (note != Some(Note::LaterFragment) || fragment.part == Part::Later, "what is noted is so"),
        (fragment.part != Part::Later || ports == 0, "ports of a later fragment are elsewhere"),
        (fragment.part != Part::Whole || fragment.id == 0, "a whole packet has no id"),
        (
            note != Some(Note::ExtensionTruncated) || ports == 0,
            "behind a cut chain there is nothing",
        ),
        (note != Some(Note::ExtensionLimit) || ports == 0, "behind the limit nothing is read"),
    ];
    laws.into_iter().find_map(|(kept, law)| (!kept).then_some(law))
}

/// The plain path must give the result of the full path, or leave the packet to it.
fn shortcut(input: &Input, parsed: Option<Packet>) -> Option<String> {
    let Input { bytes, frame } = input;
    let plain = parse_plain(&InPlace(bytes), *frame);
    if plain.is_some() && plain != parsed {
        return Some(format!("the short way says {plain:?}"));
    }
    let is_plain = parsed.is_some_and(|packet| {
        frame.link == Link::Ethernet
            && frame.offload.size == 0
            && packet.note.is_none()
            && packet.fragment.part == Part::Whole
            && matches!(
                (&bytes[12..14], bytes[20]),
                ([0x08, 0x00], _) | ([0x86, 0xdd], 6 | 17 | 58)
            )
    });
    (is_plain && plain.is_none())
        .then(|| "the short way left a plain packet to the long one".to_owned())
}

/// Number of outcomes of each kind.
#[derive(Default)]
struct Tally {
    lost: [u64; LossReason::ALL.len()],
    not_ip: [u64; NonIpKind::ALL.len()],
    notes: [u64; Note::ALL.len()],
    flows: u64,
    fragments: u64,
    super_packets: u64,
}

impl Tally {
    fn count(&mut self, input: &Input) {
        match parse(&input.bytes[..], input.frame) {
            Ok(packet) => {
                self.flows += 1;
                self.fragments += u64::from(packet.fragment.part == Part::First);
                self.super_packets += u64::from(packet.wire.packets > 1);
                if let Some(note) = packet.note {
                    self.notes[note as usize] += 1;
                }
            }
            Err(Skip::Lost(reason, _)) => self.lost[reason as usize] += 1,
            Err(Skip::NonIp(kind)) => self.not_ip[kind as usize] += 1,
            Err(Skip::Chain) => {}
        }
    }

    /// Count of the rarest outcome.
    fn least(&self) -> u64 {
        let of_packets = |reason: &LossReason| {
            !matches!(
                reason,
                LossReason::TableFull | LossReason::Internal | LossReason::DropUnbooked
            )
        };
        let lost =
            LossReason::ALL.into_iter().filter(of_packets).map(|reason| self.lost[reason as usize]);
        let counts = lost.chain(self.not_ip).chain(self.notes);
        counts.chain([self.flows, self.fragments, self.super_packets]).min().unwrap_or(0)
    }
}

#[test]
fn generated_packets_come_in_every_kind() {
    let seed = fastrand::u64(..);
    let mut generator = Generator::new(Kind::Any, seed);
    let mut tally = Tally::default();
    (0..200_000).for_each(|number| tally.count(&generator.input(number)));
    assert!(tally.least() >= 20, "seed {seed}: a kind came {} times", tally.least());
}

#[test]
fn generated_packets_come_to_what_a_second_parser_says() {
    let Effort { inputs, seed } = Effort::or(2_000_000, fastrand::u64(..));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let started = Instant::now();
    // After a mistake, the other threads stop.
    let failed = AtomicBool::new(false);
    let judge = |first: u64| {
        let mut generator = Generator::new(Kind::Any, seed);
        for number in
            (first..inputs).step_by(threads).take_while(|_| !failed.load(Ordering::Relaxed))
        {
            let input = generator.input(number);
            if let Some(mistake) = mistake(&input) {
                failed.store(true, Ordering::Relaxed);
                let smallest = smallest(input, |input| self::mistake(input).is_some());
                let mistake = self::mistake(&smallest).unwrap_or(mistake);
                panic!("seed {seed}, packet {number}: {mistake}\n{smallest}");
            }
        }
    };
    thread::scope(|scope| {
        for first in 0..threads as u64 {
            scope.spawn(move || judge(first));
        }
    });
    println!("{inputs} packets in {:.1} s, seed {seed}", started.elapsed().as_secs_f64());
}
