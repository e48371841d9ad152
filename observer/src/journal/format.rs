//! Frames of a journal file, and the encoding of transactions.
//!
//! A frame is its length, the CRC-32 of its content, and its content, all in little-endian byte
//! order. A file ends with its first frame that is not whole.

use std::collections::BTreeSet;

use observer_ebpf::abi::Ledger;
use serde::{Deserialize, Serialize};

use crate::{
    accounts::Kept,
    flow::{Counters, Delta, FlowKey, Icmp, InterfaceNumber, Traffic, Window},
    kernel::Position,
};

/// Version of the format. A file of another version is not read.
const VERSION: u32 = 1;

/// First frame of a file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Header {
    version: u32,
    /// Words of a ledger.
    ledger: usize,
    start: i64,
    end: i64,
    /// Interfaces whose records of the previous window are held.
    pub(super) held: Vec<u16>,
}

impl Header {
    pub(super) fn new(window: Window, held: &BTreeSet<InterfaceNumber>) -> Self {
        let held = held.iter().map(|number| number.get()).collect();
        Self { version: VERSION, ledger: LEDGER, start: window.start, end: window.end, held }
    }

    pub(super) const fn window(&self) -> Window {
        Window { start: self.start, end: self.end }
    }

    pub(super) const fn is_ours(&self) -> bool {
        self.version == VERSION && self.ledger == LEDGER
    }
}

/// Kinds of frames, the first byte of their content.
pub(super) const HEADER: u8 = 1;
pub(super) const INTERFACE: u8 = 2;
pub(super) const TRANSACTION: u8 = 3;

/// Words of an encoded ledger.
const LEDGER: usize = size_of::<Ledger>() / 8;
const _: () = assert!(size_of::<Ledger>().is_multiple_of(8));

/// State of an account at the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccountState {
    pub(super) number: InterfaceNumber,
    pub(super) attached: bool,
    pub(super) retired: bool,
    pub(super) accounted: [Ledger; 2],
    pub(super) unreported: Traffic,
    pub(super) window: [Traffic; 2],
}

/// Counts that were added between two clearings of the kernel's maps.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Counts, and true for those of the next window.
    pub(super) deltas: Vec<(Delta, bool)>,
    /// Position of each run whose maps are read, with the run's ID.
    pub(super) positions: Vec<(u64, Position)>,
    /// State of all accounts; `None` between two ticks.
    pub(super) accounts: Option<Vec<AccountState>>,
}

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 8]);
    out.push(kind);
    content(out);
    let length = (out.len() - start - 8) as u32;
    let checksum = crc32fast::hash(&out[start + 8..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

/// The whole frames of a file: kind and content.
pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return None;
        }
        bytes = rest;
        let (kind, content) = content.split_first()?;
        Some((*kind, content))
    })
}

/// Appends a count.
pub(super) fn push_delta(out: &mut Vec<u8>, delta: &Delta, kept: Kept) {
    let Counters {
        packets,
        bytes,
        first_ms,
        last_ms,
        tcp_flags_all,
        tcp_flags_aws,
        icmp,
        undelivered: _,
    } = delta.counters;
    let [mixed, kind, code] = match icmp {
        Icmp::None => [0, 0, 0],
        Icmp::One { kind, code } => [1, kind, code],
        Icmp::Mixed => [2, 0, 0],
    };
    let next = u8::from(kept == Kept::Next);
    let small = u64::from_le_bytes([tcp_flags_all, tcp_flags_aws, mixed, kind, code, next, 0, 0]);
    for word in delta.key.words() {
        out.extend(word.to_le_bytes());
    }
    for word in [packets, bytes, first_ms.cast_unsigned(), last_ms.cast_unsigned(), small] {
        out.extend(word.to_le_bytes());
    }
}

/// Appends the content of a transaction. `deltas` are encoded counts.
pub(super) fn push_transaction(
    out: &mut Vec<u8>,
    deltas: &[u8],
    positions: &[(u64, Position)],
    accounts: Option<&[AccountState]>,
) {
    let mut word = |word: u64| out.extend(word.to_le_bytes());
    word((deltas.len() / DELTA) as u64);
    word(positions.len() as u64);
    for (run, position) in positions {
        word(*run);
        word(position.halves);
        word(position.ring);
    }
    word(accounts.map_or(u64::MAX, |accounts| accounts.len() as u64));
    for account in accounts.unwrap_or_default() {
        let flags = u64::from(account.attached) | u64::from(account.retired) << 1;
        word(u64::from(account.number.get()) | flags << 16);
        for traffic in [account.unreported, account.window[0], account.window[1]] {
            word(traffic.packets);
            word(traffic.bytes);
        }
        for ledger in &account.accounted {
            ledger_words(ledger).iter().copied().for_each(&mut word);
        }
    }
    out.extend(deltas);
}

/// Bytes of an encoded count.
const DELTA: usize = 10 * 8;

/// Decodes the content of a transaction; `None` if it is not one.
pub(super) fn transaction(content: &[u8]) -> Option<Transaction> {
    let mut words = Words(content);
    let count = words.next()?;
    let runs = words.next()?;
    let mut position = || {
        let (run, halves, ring) = (words.next()?, words.next()?, words.next()?);
        Some((run, Position { halves, ring }))
    };
    let positions = (0..runs).map(|_| position()).collect::<Option<_>>()?;
    let accounts = match words.next()? {
        u64::MAX => None,
        accounts => Some((0..accounts).map(|_| account(&mut words)).collect::<Option<_>>()?),
    };
    let deltas = (0..count).map(|_| delta(&mut words)).collect::<Option<_>>()?;
    Some(Transaction { deltas, positions, accounts })
}

fn account(words: &mut Words<'_>) -> Option<AccountState> {
    let number = words.next()?;
    let mut traffic = || Some(Traffic { packets: words.next()?, bytes: words.next()? });
    let (unreported, window) = (traffic()?, [traffic()?, traffic()?]);
    Some(AccountState {
        number: InterfaceNumber::new(number as u16),
        attached: number & 1 << 16 != 0,
        retired: number & 2 << 16 != 0,
        accounted: [words.ledger()?, words.ledger()?],
        unreported,
        window,
    })
}

fn delta(words: &mut Words<'_>) -> Option<(Delta, bool)> {
    let mut key = [0; 5];
    for word in &mut key {
        *word = words.next()?;
    }
    let [packets, bytes, first, last] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    let [tcp_flags_all, tcp_flags_aws, mixed, kind, code, next, ..] = words.next()?.to_le_bytes();
    let icmp = match mixed {
        0 => Icmp::None,
        1 => Icmp::One { kind, code },
        _ => Icmp::Mixed,
    };
    let counters = Counters {
        packets,
        bytes,
        first_ms: first.cast_signed(),
        last_ms: last.cast_signed(),
        tcp_flags_all,
        tcp_flags_aws,
        icmp,
        undelivered: 0,
    };
    Some((Delta { key: FlowKey::from_words(key), counters }, next != 0))
}

/// Words that are not decoded yet.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn ledger(&mut self) -> Option<Ledger> {
        let mut words = [0; LEDGER];
        for word in &mut words {
            *word = self.next()?;
        }
        // SAFETY: a ledger consists of as many words, all of which are valid.
        Some(unsafe { std::mem::transmute::<[u64; LEDGER], Ledger>(words) })
    }
}

fn ledger_words(ledger: &Ledger) -> &[u64; LEDGER] {
    // SAFETY: a ledger consists of as many words, without padding.
    unsafe { &*(&raw const *ledger).cast() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Direction, Family};

    fn delta(packets: u64) -> Delta {
        Delta {
            key: FlowKey::new(
                InterfaceNumber::new(3),
                Direction::Egress,
                Family::V6,
                6,
                ([1, 2], [3, 4]),
                (5, 6),
            ),
            counters: Counters {
                packets,
                bytes: 70,
                first_ms: -8,
                last_ms: 9,
                tcp_flags_all: 0x1f,
                tcp_flags_aws: 3,
                icmp: Icmp::One { kind: 8, code: 1 },
                undelivered: 0,
            },
        }
    }

    #[test]
    fn a_transaction_is_read_as_it_was_written() {
        let account = AccountState {
            number: InterfaceNumber::new(3),
            attached: true,
            retired: false,
            accounted: [
                Ledger { packets: 5, bytes: u64::MAX, ..Ledger::default() },
                Ledger { frames: 9, ..Ledger::default() },
            ],
            unreported: Traffic { packets: 1, bytes: 2 },
            window: [Traffic { packets: 3, bytes: 4 }, Traffic { packets: 5, bytes: 6 }],
        };
        let mut deltas = Vec::new();
        push_delta(&mut deltas, &delta(1), Kept::Open);
        push_delta(&mut deltas, &delta(2), Kept::Next);
        let positions = [(77, Position { halves: 7, ring: 8 })];
        let mut file = Vec::new();
        frame(&mut file, TRANSACTION, |out| {
            push_transaction(out, &deltas, &positions, Some(&[account]));
        });
        let whole = file.len();
        frame(&mut file, TRANSACTION, |out| push_transaction(out, &[], &positions, None));
        let read: Vec<_> =
            frames(&file).map(|(_, content)| transaction(content).unwrap()).collect();
        let expected = Transaction {
            deltas: vec![(delta(1), false), (delta(2), true)],
            positions: positions.to_vec(),
            accounts: Some(vec![account]),
        };
        let second = Transaction { positions: positions.to_vec(), ..Transaction::default() };
        assert_eq!(read, [expected, second]);
        // Whatever is cut off or broken, the first frame stays.
        for end in whole..file.len() {
            assert_eq!(frames(&file[..end]).count(), 1, "{end}");
        }
        *file.last_mut().unwrap() ^= 1;
        assert_eq!(frames(&file).count(), 1);
    }

    #[test]
    fn content_that_is_no_transaction_is_refused() {
        for length in 0..64 {
            assert_eq!(transaction(&vec![0xff; length]), None, "{length}");
        }
    }
}
