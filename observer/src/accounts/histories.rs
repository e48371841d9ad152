//! Tests with random histories. Whatever the order of drains, ring reads, registrations, renames,
//! retirements, late ticks, clock changes and restarts of the daemon, every packet is in exactly one record or one loss.
//!
//! A model [`Kernel`] counts as the programs do. Its own sums are the reference.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use observer_ebpf::abi::{Direction, Ledger, Loss, LossReason};

use super::{
    Accounts, BatchExtras, Event, Frames, Limits, Named, OpenTick, Outcome, Restored,
    examples::{delta, key, named, number},
};
use crate::flow::{
    Action, Delta, DropReason, Family, FlowKey, InterfaceNumber, Room, Table, Traffic, Window,
};

const NUMBERS: u16 = 4;
const HISTORIES: u64 = 100_000;
const START_MS: i64 = 1_700_000_000_000;

/// A deliberate error, made once in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Dropped,
    Twice,
    Late,
}

/// Model of the programs, the maps and the attaching thread, as the accounts see them.
#[derive(Debug, Default)]
struct Kernel {
    /// Ledgers by number and direction. Never reset.
    ledgers: [[Ledger; 2]; NUMBERS as usize + 1],
    cache: Vec<Delta>,
    ring: Vec<Delta>,
    /// Events that are not delivered yet.
    events: VecDeque<Event>,
    /// Interface of each counting number, by a key that is never reused.
    counting: BTreeMap<u16, u64>,
    free: Vec<u16>,
    born: u64,
    /// Traffic that each interface has carried.
    carried: BTreeMap<u64, Traffic>,
}

struct History {
    rng: Rng,
    kernel: Kernel,
    limits: Limits,
    accounts: Accounts,
    now_ms: i64,
    /// Traffic in records and in SKIPDATA, by interface.
    written: BTreeMap<u64, Traffic>,
    fault: Fault,
    /// The count that [`Fault::Late`] holds back.
    late: Option<Delta>,
}

impl Kernel {
    fn attach(&mut self, rng: &mut Rng) {
        let Some(one) = self.free.pop() else { return };
        self.born += 1;
        let mut named = Self::named(self.born);
        named.awaits_identity = rng.u8(..4) == 0;
        named.older = rng.bool();
        let (number, key) = (number(one), key(self.born));
        if rng.u8(..10) == 0 {
            self.events.push_back(Event::Missed { number, key, named });
            return;
        }
        self.counting.insert(one, self.born);
        self.events.push_back(Event::Register { number, key, named });
        // Packets may arrive between registration and attachment.
        if rng.bool() {
            self.packet(rng, START_MS);
        }
        let packets = if rng.u8(..4) == 0 { rng.u64(1..9) } else { 0 };
        let missed = Traffic { packets, bytes: packets * 100 };
        *self.carried.entry(self.born).or_default() += missed;
        self.events.push_back(Event::Attached {
            number,
            hook: "tc",
            missed: [missed, Traffic::NONE],
        });
    }

    fn named(netns: u64) -> Named {
        let mut named = named("eth0");
        let subject = crate::record::Subject { netns, ..(*named.subject).clone() };
        named.subject = subject.into();
        named
    }

    fn some_interface(&self, rng: &mut Rng) -> Option<(u16, u64)> {
        let place = rng.usize(..self.counting.len().max(1));
        self.counting.iter().nth(place).map(|(number, netns)| (*number, *netns))
    }

    fn rename(&mut self, rng: &mut Rng) {
        let Some((one, netns)) = self.some_interface(rng) else { return };
        let named = Self::named(netns);
        self.events.push_back(Event::Rename { number: number(one), key: key(netns), named });
    }

    fn retire(&mut self, rng: &mut Rng) {
        let Some((one, _)) = self.some_interface(rng) else { return };
        self.counting.remove(&one);
        self.events.push_back(Event::Retire { number: number(one) });
    }

    /// Removes the programs and attaches them again, or lets frames bypass them.
    fn lose_hook(&mut self, rng: &mut Rng) {
        let Some((one, netns)) = self.some_interface(rng) else { return };
        let packets = rng.u64(0..9);
        let missed = Traffic { packets, bytes: packets * 100 };
        *self.carried.entry(netns).or_default() += missed;
        let number = number(one);
        if rng.bool() {
            self.events.push_back(Event::Removed { number });
            self.events.push_back(Event::Restored {
                number,
                hook: "tc",
                missed: [Traffic::NONE, missed],
            });
        } else {
            let carried = [Frames::default(); 2];
            let unseen = [missed, Traffic::NONE];
            self.events.push_back(Event::Carried { number, key: key(netns), carried, unseen });
        }
    }

    /// Counts a packet of a random flow and interface, with a random outcome.
    fn packet(&mut self, rng: &mut Rng, now_ms: i64) {
        let Some((one, netns)) = self.some_interface(rng) else { return };
        let mut delta = delta(one, rng.u64(..6), rng.u64(1..4));
        (delta.counters.first_ms, delta.counters.last_ms) = (now_ms, now_ms);
        let direction = if rng.bool() { Direction::Ingress } else { Direction::Egress };
        delta.key = FlowKey::new(
            number(one),
            direction,
            Family::V6,
            17,
            ([0, rng.u64(..6)], [0, 1]),
            (7, 53),
        );
        let traffic = Traffic { packets: delta.counters.packets, bytes: delta.counters.bytes };
        let loss = Loss { packets: traffic.packets, bytes: traffic.bytes };
        let ledger = &mut self.ledgers[usize::from(one)][direction as usize];
        *self.carried.entry(netns).or_default() += traffic;
        let rejected =
            |reason| Delta { key: delta.key.with_action(Action::Reject(reason)), ..delta };
        let fate = rng.u8(..16);
        if fate == 0 {
            // Dropped by host policy before the hook.
            ledger.stopped.packets += loss.packets;
            ledger.stopped.bytes += loss.bytes;
            self.cache.push(rejected(DropReason::CgroupEgress));
            return;
        }
        ledger.packets += traffic.packets;
        ledger.bytes += traffic.bytes;
        match fate {
            1 => {
                let full = &mut ledger.lost[LossReason::TableFull as usize];
                full.packets += loss.packets;
                full.bytes += loss.bytes;
            }
            2 | 3 => self.ring.push(delta),
            4 => self.cache.extend([delta, rejected(DropReason::TcIngress)]),
            _ => self.cache.push(delta),
        }
    }
}

impl History {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = Limits {
            window_seconds: rng.u32(1..5),
            max_flows: rng.usize(1..20),
            room: Room::new(rng.usize(4..60)),
            interfaces: NUMBERS,
            recorded_until: rng.bool().then_some(START_MS / 1000 - 5),
        };
        Self {
            kernel: Kernel { free: (1..=NUMBERS).collect(), ..Kernel::default() },
            accounts: Accounts::new(limits.clone(), START_MS),
            limits,
            rng,
            now_ms: START_MS,
            written: BTreeMap::new(),
            fault,
            late: None,
        }
    }

    fn live(&mut self) {
        for _ in 0..self.rng.u32(10..60) {
            let (now_ms, rng) = (self.now_ms, &mut self.rng);
            match rng.u8(..17) {
                16 => self.restart(),
                0 | 1 => self.kernel.attach(rng),
                2 => self.kernel.rename(rng),
                3 if rng.bool() => self.kernel.retire(rng),
                3 => self.kernel.lose_hook(rng),
                4 => self.handle_events(),
                5 => self.read_ring(),
                6..=8 => {
                    self.pass_time();
                    self.tick();
                }
                _ => self.kernel.packet(rng, now_ms),
            }
        }
        self.last_tick();
    }

    /// Kills the daemon, and starts another one with what the journal has. The programs count on.
    fn restart(&mut self) {
        self.handle_events();
        let batches = self.accounts.take_held();
        self.write(&Outcome { batches, ..Outcome::default() });
        let interfaces = self.accounts.standings();
        let known: BTreeSet<_> = interfaces.iter().map(|it| it.number.get()).collect();
        self.kernel.free = (1..=NUMBERS).filter(|number| !known.contains(number)).collect();
        let (window, open) = self.accounts.in_window();
        let mut flows = Table::new();
        open.flows().for_each(|flow| flows.add(flow));
        self.limits.room = Room::new(self.rng.usize(4..60));
        self.accounts = Accounts::new(self.limits.clone(), self.now_ms);
        let ledgers = self.kernel.ledgers;
        self.accounts.start_numbers(|number| ledgers[usize::from(number.get())]);
        self.accounts.restore(Restored { window: Some(window), flows, interfaces });
        for (one, netns) in &self.kernel.counting {
            let (number, key) = (number(*one), key(*netns));
            let named = Kernel::named(*netns);
            self.kernel.events.push_back(Event::Register { number, key, named });
            let missed = [Traffic::NONE; 2];
            self.kernel.events.push_back(Event::Attached { number, hook: "tc", missed });
        }
    }

    fn pass_time(&mut self) {
        self.now_ms += match self.rng.u8(..20) {
            0 => 60_000,
            1 => 86_400_000,
            2 => -3_600_000,
            _ => self.rng.i64(200..1500),
        };
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.kernel.events.pop_front() {
            self.accounts.handle(event, self.now_ms);
        }
        self.accounts.add_early();
    }

    /// Reads the ring, also while events are pending.
    fn read_ring(&mut self) {
        for delta in std::mem::take(&mut self.kernel.ring) {
            self.accounts.add(delta);
        }
    }

    fn drain(&mut self, tick: &mut OpenTick) {
        let mut counted = std::mem::take(&mut self.kernel.cache);
        self.rng.shuffle(&mut counted);
        // Packets dropped after the hook are a part of the accepted ones, and in no sum of their
        // own.
        let is_whole = |delta: &Delta| !delta.key.is_rejected_behind_hook();
        if let Some(place) = counted.iter().position(is_whole) {
            let victim = counted.swap_remove(place);
            match std::mem::replace(&mut self.fault, Fault::None) {
                Fault::None => counted.push(victim),
                Fault::Dropped => {}
                Fault::Twice => counted.extend([victim, victim]),
                Fault::Late => self.late = Some(victim),
            }
        }
        for delta in std::mem::take(&mut self.kernel.ring) {
            self.accounts.add_drained(tick, false, delta);
        }
        // Packets continue to arrive while the old half is read, and some of them spill.
        for _ in 0..self.rng.u8(..3) {
            self.kernel.packet(&mut self.rng, self.now_ms);
        }
        let spilled = std::mem::take(&mut self.kernel.ring);
        for (after_flip, delta) in spilled
            .into_iter()
            .map(|delta| (true, delta))
            .chain(counted.into_iter().map(|delta| (false, delta)))
        {
            self.accounts.add_drained(tick, after_flip, delta);
        }
        let ledgers = self.kernel.ledgers;
        self.accounts.read(|number| ledgers[usize::from(number.get())], |_, _| {});
    }

    fn tick(&mut self) {
        self.handle_events();
        let mut tick = self.accounts.begin(self.now_ms);
        self.drain(&mut tick);
        let outcome = self.accounts.end(tick, BatchExtras::default());
        self.write(&outcome);
    }

    fn last_tick(&mut self) {
        self.handle_events();
        // No more packets are counted.
        self.kernel.counting.clear();
        let mut tick = self.accounts.begin_last(self.now_ms);
        self.drain(&mut tick);
        for figures in self.accounts.figures() {
            for direction in Direction::ALL {
                assert!(figures.account.statement(direction).is_exact(), "{figures:?}");
            }
        }
        let outcome = self.accounts.finish(tick, BatchExtras::default());
        self.write(&outcome);
        if let Some(late) = self.late.take() {
            self.accounts.add(late);
        }
    }

    fn write(&mut self, outcome: &Outcome) {
        for batch in &outcome.batches {
            let mut heard = BTreeSet::new();
            let netns = |interface: InterfaceNumber| batch.subjects[&interface].netns;
            for flow in batch.flows.flows() {
                let interface = flow.key.interface();
                heard.insert(interface);
                let traffic =
                    Traffic { packets: flow.counters.packets, bytes: flow.counters.bytes };
                *self.written.entry(netns(interface)).or_default() += traffic;
                let Window { start, .. } = batch.window;
                assert!(flow.counters.first_ms >= start * 1000, "a flow begins before its window");
            }
            for (interface, lost) in &batch.lossy {
                *self.written.entry(netns(*interface)).or_default() += *lost;
            }
            for interface in &batch.silent {
                assert!(!heard.contains(interface), "NODATA for an interface with flows");
            }
        }
        self.kernel.free.extend(outcome.freed.iter().map(|number| number.get()));
    }

    /// True if exactly the traffic of each interface was written.
    fn is_exact(&self) -> bool {
        let of =
            |sums: &BTreeMap<u64, Traffic>, netns| sums.get(&netns).copied().unwrap_or_default();
        (1..=self.kernel.born)
            .all(|netns| of(&self.kernel.carried, netns) == of(&self.written, netns))
    }
}

#[test]
fn every_packet_of_every_history_is_recorded_or_lost_once() {
    for seed in 0..HISTORIES {
        let mut history = History::new(seed, Fault::None);
        history.live();
        assert!(
            history.is_exact(),
            "seed {seed}: carried {:?}, written {:?}",
            history.kernel.carried,
            history.written
        );
    }
}

#[test]
fn a_count_that_is_dropped_doubled_or_late_is_found() {
    for fault in [Fault::Dropped, Fault::Twice, Fault::Late] {
        let mut made = 0;
        for seed in 0..1000 {
            let mut history = History::new(seed, fault);
            let found =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.live())).is_err();
            if history.fault == Fault::None {
                made += 1;
                assert!(found || !history.is_exact(), "seed {seed}: {fault:?} is not found");
            }
        }
        assert!(made > 500, "{fault:?}: made {made} times");
    }
}
