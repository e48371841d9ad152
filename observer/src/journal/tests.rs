//! A run that ends without notice, and what the next one finds.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use observer_ebpf::abi::Ledger;

use super::{Journal, JournalOptions, Left, Progress};
use crate::{
    accounts::{Accounts, BatchExtras, Kept, Limits, Named, Standing},
    flow::{
        Counters, Delta, Direction, Family, FlowKey, Icmp, InterfaceNumber, Room, Table, Traffic,
        Window,
    },
    kernel::Position,
    record::{Mark, Subject},
    tasks::InterfaceKey,
    worker::Deadline,
};

const WINDOW: Window = Window { start: 60, end: 120 };
const NEXT: Window = Window { start: 120, end: 180 };
const NUMBER: InterfaceNumber = InterfaceNumber::new(3);
const POSITIONS: [(u64, Position); 1] = [(9, Position { halves: 4, ring: 144 })];

fn delta(flow: u16, packets: u64) -> Delta {
    Delta {
        key: FlowKey::new(NUMBER, Direction::Ingress, Family::V6, 17, ([0, 1], [0, 2]), (flow, 53)),
        counters: Counters {
            packets,
            bytes: packets * 100,
            first_ms: 61_000,
            last_ms: 61_000,
            tcp_flags_all: 0,
            tcp_flags_aws: 0,
            icmp: Icmp::None,
            undelivered: 0,
        },
    }
}

/// An interface with this many packets in the open window, and in all.
fn standing(window: u64, accounted: u64) -> Standing {
    let subject =
        Subject { interface_name: "eth0".into(), mac: "02::1".into(), ..Subject::default() };
    let ledger = Ledger { packets: accounted, bytes: accounted * 100, ..Ledger::default() };
    Standing {
        number: NUMBER,
        key: InterfaceKey { netns: 7, birth: 1, ifindex: 2 },
        named: Named { subject: Arc::new(subject), awaits_identity: false, older: false },
        attached: true,
        retired: false,
        accounted: [ledger, Ledger::default()],
        unreported: Traffic { packets: 1, bytes: 40 },
        window: [Traffic { packets: window, bytes: window * 100 }, Traffic::NONE],
    }
}

fn journal(directory: &Path, limit: usize) -> Journal {
    let options =
        JournalOptions { directory: directory.into(), limit, sequence: 1, held: BTreeSet::new() };
    let accounts = [standing(0, 10)];
    let progress = Progress { positions: &POSITIONS, accounts: Some(&accounts) };
    Journal::start(options, WINDOW, &Table::new(), progress).unwrap()
}

/// Packets of each flow, by its port.
fn packets(flows: &Table) -> Vec<(u16, u64)> {
    let mut packets: Vec<_> =
        flows.flows().map(|flow| (flow.key.source_port(), flow.counters.packets)).collect();
    packets.sort_unstable();
    packets
}

#[test]
fn what_was_committed_is_found_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path(), 1 << 20);
    journal.add(&delta(1, 2), Kept::Open);
    journal.add(&delta(2, 3), Kept::Not);
    let accounts = [standing(2, 15)];
    let tick = Progress { positions: &POSITIONS, accounts: Some(&accounts) };
    assert!(journal.commit(tick));
    // Between two ticks.
    journal.add(&delta(1, 4), Kept::Open);
    assert!(journal.commit(Progress { positions: &POSITIONS, accounts: None }));
    journal.add(&delta(5, 1), Kept::Open);

    let left = Left::read(directory.path());
    assert_eq!(packets(&left.open.flows), [(1, 6)]);
    assert_eq!(left.open.window, Some(WINDOW));
    assert_eq!(left.positions, POSITIONS.into());
    assert_eq!((left.sequence, left.closed.len(), left.interfaces.len()), (1, 0, 1));
    let found = &left.open.interfaces[0];
    assert_eq!(found.accounted[0].packets, 19, "15, and 4 since the tick");
    assert_eq!(found.window[0], Traffic { packets: 6, bytes: 600 });
    assert_eq!(&*found.named.subject.interface_name, "eth0");
}

#[test]
fn a_window_is_found_until_its_mark_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path(), 1 << 20);
    let mark = journal.mark(Mark::new(|| {}));
    journal.add(&delta(1, 2), Kept::Open);
    journal.add(&delta(2, 7), Kept::Next);
    let accounts = [standing(9, 19)];
    let progress = Progress { positions: &POSITIONS, accounts: Some(&accounts) };
    journal.commit(progress);
    // Killed now, the daemon would have one window.
    assert_eq!(packets(&Left::read(directory.path()).open.flows), [(1, 2), (2, 7)]);
    let accounts = [standing(7, 19)];
    journal.rotate(
        NEXT,
        [InterfaceNumber::new(8)].into(),
        Progress { positions: &POSITIONS, accounts: Some(&accounts) },
    );

    let left = Left::read(directory.path());
    let [(1, batches)] = &left.closed[..] else { panic!("{:?}", left.closed) };
    let [batch] = &batches[..] else { panic!("{batches:?}") };
    assert_eq!(left.held, [InterfaceNumber::new(8)].into());
    assert_eq!((packets(&batch.flows), batch.window), (vec![(1, 2)], WINDOW));
    assert_eq!(batch.lossy, [(NUMBER, Traffic { packets: 1, bytes: 40 })]);
    assert_eq!((packets(&left.open.flows), left.open.window), (vec![(2, 7)], Some(NEXT)));

    drop(mark);
    journal.finish(true, &Deadline::never());
    let left = Left::read(directory.path());
    assert_eq!((left.closed.len(), left.sequence), (0, 2));
}

#[test]
fn nothing_is_left_of_a_run_that_detaches() {
    let directory = tempfile::tempdir().unwrap();
    journal(directory.path(), 1 << 20).finish(false, &Deadline::never());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_torn_transaction_ends_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path(), 1 << 20);
    for flow in 1..=2 {
        journal.add(&delta(flow, 1), Kept::Open);
        let accounts = [standing(flow.into(), 10)];
        journal.commit(Progress { positions: &POSITIONS, accounts: Some(&accounts) });
    }
    let file = directory.path().join("00000000000000000001.journal");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(packets(&Left::read(directory.path()).open.flows), [(1, 1)]);
    fs::write(&file, b"nothing of ours").unwrap();
    assert!(Left::read(directory.path()).open.interfaces.is_empty());
}

#[test]
fn flows_beyond_the_limit_are_lost_by_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = journal(directory.path(), 8 << 10);
    let mut flows = Table::new();
    for flow in 0..100 {
        journal.add(&delta(flow, 1), Kept::Open);
        flows.add(&delta(flow, 1));
    }
    let accounts = [standing(100, 100)];
    let progress = Progress { positions: &POSITIONS, accounts: Some(&accounts) };
    assert!(!journal.commit(progress), "the file is full");
    journal.rewrite(WINDOW, &flows, progress);
    journal.add(&delta(0, 1), Kept::Open);

    let left = Left::read(directory.path());
    assert!(left.open.flows.is_empty());
    let limits = Limits {
        window_seconds: 60,
        max_flows: 1000,
        room: Room::new(1000),
        interfaces: 8,
        recorded_until: None,
    };
    let mut accounts = Accounts::new(limits, 130_000);
    accounts.restore(left.open);
    let tick = accounts.begin_last(130_000);
    let outcome = accounts.finish(tick, BatchExtras::default());
    let lost = Traffic { packets: 100, bytes: 10_000 } + Traffic { packets: 1, bytes: 40 };
    assert_eq!(outcome.batches[0].lossy, [(NUMBER, lost)]);
}
