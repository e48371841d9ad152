//! Generated packets through the loaded programs: the verified code in the kernel must give the
//! same result as the parser on the host.
//!
//! Ledgers are compared after each packet, flows after a batch, because reading flows waits for a
//! grace period. Numbers in the addresses distinguish the packets.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use anyhow::Result;
use observer::flow::{Delta, Icmp};
use observer_ebpf::abi::{Direction, Ledger, Note};
use observer_tests::{need, requires};

use crate::{
    loaded::{Load, Loaded, outcome, sizes},
    packets::{
        Input, Outcome,
        effort::Effort,
        generator::{Generator, Kind},
        reference::{self, Fragment},
        smallest::smallest,
        test_run::is_taken,
    },
};

/// Packets between two readings of the flows.
const BATCH: u64 = 8192;

/// Key of a packet's flow.
type Key = (Direction, IpAddr, IpAddr, u8, u16, u16);

/// Counts of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    bytes: u64,
    tcp_flags: u8,
    icmp: Option<(u8, u8)>,
}

/// Loaded programs and their expected counts.
struct Comparison {
    loaded: Loaded,
    expected: HashMap<Key, (Counts, Input)>,
    /// Later fragments without a first fragment that got the ports of another packet: the program
    /// identifies a first fragment by 37 bits of a hash, whose factors differ from load to load.
    strangers: u64,
}

impl Comparison {
    fn new(kind: Kind) -> Self {
        let load =
            Load { ethernet: kind == Kind::Ethernet, sizes: sizes(64 << 20), ..Load::default() };
        Self { loaded: Loaded::new(load), expected: HashMap::new(), strangers: 0 }
    }

    /// Sends a packet and checks it against `expected`.
    fn send(&mut self, direction: Direction, input: &Input, expected: &Outcome) {
        let account = self.loaded.send(direction, input);
        // The result does not depend on how the packet was read and where its flow was stored.
        let account = Ledger { copied: 0, spilled: 0, ..account };
        let expected_account = self::account(input, expected);
        if account != expected_account {
            let without_note = Ledger { notes: account.notes, ..expected_account };
            if expected_account.notes[Note::LaterFragment as usize] == 1 && account == without_note
            {
                self.strangers += 1;
                return;
            }
            self.disagree(
                direction,
                input,
                &format!("{{ {expected} }} by the parser, {account:?}"),
            );
        }
        let &Outcome::Flow {
            source,
            destination,
            protocol,
            source_port,
            destination_port,
            icmp,
            tcp_flags,
            packets,
            bytes,
            ..
        } = expected
        else {
            return;
        };
        let key = (direction, source, destination, protocol, source_port, destination_port);
        let (counts, _) =
            self.expected.entry(key).or_insert_with(|| (Counts::default(), input.clone()));
        counts.packets += packets;
        counts.bytes += bytes;
        counts.tcp_flags |= tcp_flags;
        counts.icmp = icmp;
    }

    /// Compares the flows of all packets sent since the last call.
    fn compare(&mut self) {
        let mut flows: HashMap<Key, Counts> = HashMap::new();
        for delta in self.loaded.flows() {
            add(flows.entry(key(&delta)).or_default(), &delta);
        }
        for (key, (expected, input)) in std::mem::take(&mut self.expected) {
            let counted = flows.remove(&key);
            if counted != Some(expected) {
                self.disagree(
                    key.0,
                    &input,
                    &format!("{key:?}: {expected:?} by the parser, {counted:?}"),
                );
            }
        }
        assert!(flows.len() as u64 <= self.strangers, "flows of no packet: {flows:?}");
        self.strangers -= flows.len() as u64;
    }

    /// Panics with the smallest packet that shows the disagreement, if a single packet does.
    fn disagree(&mut self, direction: Direction, input: &Input, what: &str) -> ! {
        self.loaded.flows();
        let mut counted = |input: &Input| {
            let (flows, ledger) = self.loaded.count(direction, input);
            outcome(&flows, &ledger)
        };
        let smallest = smallest(input.clone(), |input| {
            is_taken(&input.bytes) && counted(input) != input.parsed()
        });
        let counted = counted(&smallest);
        panic!("{what} by the program\nsmallest, of which came {{ {counted} }}:\n{smallest}");
    }
}

fn key(delta: &Delta) -> Key {
    let key = &delta.key;
    let ports = (key.source_port(), key.destination_port());
    (key.direction(), key.source(), key.destination(), key.protocol(), ports.0, ports.1)
}

fn add(counts: &mut Counts, delta: &Delta) {
    counts.packets += delta.counters.packets;
    counts.bytes += delta.counters.bytes;
    counts.tcp_flags |= delta.counters.tcp_flags_all;
    counts.icmp = match delta.counters.icmp {
        Icmp::One { kind, code } => Some((kind, code)),
        Icmp::None | Icmp::Mixed => None,
    };
}

/// The expected ledger of one packet.
fn account(input: &Input, outcome: &Outcome) -> Ledger {
    let mut account =
        Ledger { frames: 1, frame_bytes: input.bytes.len() as u64, ..Ledger::default() };
    match *outcome {
        Outcome::Flow { packets, bytes, note, .. } => {
            (account.packets, account.bytes) = (packets, bytes);
            if let Some(note) = note {
                account.notes[note as usize] = 1;
            }
        }
        Outcome::Lost { reason, packets, bytes } => {
            (account.packets, account.bytes) = (packets, bytes);
            account.lost[reason as usize].packets = packets;
            account.lost[reason as usize].bytes = bytes;
        }
        Outcome::NonIp { kind } => account.non_ip[kind as usize] = 1,
    }
    account
}

/// Gives the packet unique addresses, if it has addresses: the end of the source is the lower half
/// of `number`, the end of the destination depends on the upper half.
pub(super) fn stamp(input: &mut Input, number: u64) -> Fragment {
    let reading = reference::read(input);
    if let Outcome::Flow { .. } = reading.outcome {
        let (network, bytes) = (reading.network_at, &mut input.bytes);
        let (source_end, destination_end) =
            if bytes[network] >> 4 == 4 { (16, 20) } else { (24, 40) };
        bytes[..network + source_end]
            .last_chunk_mut::<2>()
            .unwrap()
            .copy_from_slice(&(number as u16).to_be_bytes());
        let upper = (number >> 16) as u32;
        let end: &mut [u8; 4] = bytes[..network + destination_end].last_chunk_mut().unwrap();
        *end = (u32::from_be_bytes(*end) ^ upper).to_be_bytes();
    }
    reading.fragment
}

/// A later fragment of the packet that `first` begins, with its expected outcome: it belongs to the
/// flow of the first.
fn later(first: &Input, field: usize, random: u64) -> (Input, Outcome) {
    let mut later = first.clone();
    let at = reference::read(first).network_at + field;
    // 13 bits, at the lower end of the field in IPv4 and at the upper end in IPv6. The other three
    // stay.
    let offset = (random % 0x1fff + 1) as u16;
    let old = u16::from_be_bytes([later.bytes[at], later.bytes[at + 1]]);
    let new = if field == 6 { old & 0xe000 | offset } else { offset << 3 | old & 7 };
    later.bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    let mut outcome = later.parsed();
    let (
        Outcome::Flow { protocol, source_port, destination_port, icmp, note, .. },
        Outcome::Flow { protocol: p, source_port: s, destination_port: d, icmp: i, .. },
    ) = (&mut outcome, first.parsed())
    else {
        panic!("a fragment is no flow\n{first}\n{later}");
    };
    (*protocol, *source_port, *destination_port, *icmp, *note) = (p, s, d, i, None);
    (later, outcome)
}

fn compare(kind: Kind, Effort { inputs, seed }: Effort) {
    let mut generator = Generator::new(kind, seed);
    let mut comparison = Comparison::new(kind);
    for number in 0..inputs {
        let mut input = generator.input(number);
        let fragment = stamp(&mut input, number);
        let direction = Direction::ALL[(number % 2) as usize];
        comparison.send(direction, &input, &input.parsed());
        if let Fragment::First { field } = fragment {
            let (later, outcome) = later(&input, field, number);
            comparison.send(direction, &later, &outcome);
        }
        if number % BATCH == BATCH - 1 {
            comparison.compare();
        }
    }
    comparison.compare();
    assert_eq!(comparison.strangers, 0);
}

#[test]
fn generated_packets_come_to_the_same_in_the_kernel() -> Result<()> {
    need!(requires::root());
    let Effort { inputs, seed } = Effort::or(400_000, fastrand::u64(..));
    println!("{inputs} packets, seed {seed}");
    let started = Instant::now();
    compare(Kind::Ethernet, Effort { inputs: inputs - inputs / 8, seed });
    compare(Kind::Bare, Effort { inputs: inputs / 8, seed });
    println!("{:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
