use std::{collections::BTreeSet, sync::Arc};

use observer_ebpf::abi::Ledger;

use super::{
    Event, Figures, Kept, Named, Uncounted, UncountedLosses,
    held::Held,
    interface::{Interface, Line, Stage},
    limits::Limits,
    register::{Placed, Register},
    shares::Shares,
    tick::{BatchExtras, OpenTick, Outcome},
};
use crate::{
    flow::{Counters, Delta, Direction, FlowKey, InterfaceNumber, Table, Traffic, Window},
    record::{Batch, BatchId},
    tasks::InterfaceKey,
};

/// Accounts of all interfaces of a host.
///
/// The kernel's flow cache is drained once per second; that is a tick. Flows without room in the
/// cache arrive between two ticks, through the spill ring.
///
/// - Between two ticks: [`handle`](Self::handle) takes events and [`add`](Self::add) takes entries
///   of the spill ring; [`add_early`](Self::add_early) takes those that came before the event that
///   registers their interface.
/// - A tick: [`begin`](Self::begin), before the drain switches the halves of the cache;
///   [`add_drained`](Self::add_drained) and [`note_undelivered`](Self::note_undelivered) for each
///   count of the drain; [`explain`](Self::explain) and [`read`](Self::read), the kernel's drops
///   and ledgers; [`end`](Self::end).
/// - The last tick of a run begins with [`begin_last`](Self::begin_last) and ends with
///   [`finish`](Self::finish).
///
/// Each count goes to one window, or to the losses. An interface number is given again only when
/// no count, record or flow of the next window refers to it.
#[derive(Debug)]
pub struct Accounts {
    pub(super) limits: Limits,
    pub(super) window: Window,
    pub(super) flows: Table,
    pub(super) register: Register,
    /// Records of closed windows that wait for the identity of their interface.
    held: Vec<Held>,
    /// Packets for which the open window had no room.
    refused_packets: u64,
    /// Traffic since the last tick that the programs did not count.
    uncounted: UncountedLosses,
    /// Interfaces older than the daemon whose gap, the time before its start, is already reported.
    /// Such an interface may leave a namespace and return to it.
    gaps_reported: BTreeSet<InterfaceKey>,
}

impl Accounts {
    /// Creates accounts without interfaces, and opens the window that contains the present time.
    pub fn new(limits: Limits, now_ms: i64) -> Self {
        Self {
            window: Window::holding(now_ms, limits.window_seconds),
            register: Register::new(
                limits.interfaces,
                Shares::new(limits.max_flows, limits.room.clone()),
            ),
            limits,
            flows: Table::new(),
            held: Vec::new(),
            refused_packets: 0,
            uncounted: UncountedLosses::default(),
            gaps_reported: BTreeSet::new(),
        }
    }

    /// The window that this tick closes; `None` if it closes none.
    pub fn closing(&self, tick: &OpenTick) -> Option<Window> {
        tick.next.map(|_| self.window)
    }

    /// The window that [`finish`](Self::finish) closes in this tick.
    pub fn last_window(&self, tick: &OpenTick) -> Window {
        let end = tick.now_ms.div_euclid(1000).clamp(self.window.start, self.window.end);
        Window { end, ..self.window }
    }

    /// Number of flows in the open window.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// Number of interfaces whose accounts are not closed. They share the flow cache equally.
    pub fn open_interfaces(&mut self) -> usize {
        self.register.open()
    }

    /// Sums of each interface that is in the metrics.
    pub fn figures(&mut self) -> Vec<Figures> {
        self.register.all().filter_map(|interface| interface.figures()).collect()
    }

    /// Handles an event of an interface.
    pub fn handle(&mut self, event: Event, now_ms: i64) {
        match event {
            Event::Register { number, key, named } => {
                let continues = |it: &mut Interface| it.take_over(key, &named);
                if !self.register.get(number).is_some_and(continues) {
                    self.put(number, key, named);
                }
            }
            Event::Missed { number, key, named } => {
                self.put(number, key, named);
                if let Some(interface) = self.register.get(number) {
                    interface.missed();
                }
            }
            Event::Rename { number, key, named } => {
                if let Some(interface) = self.register.get(number).filter(|it| it.key == key) {
                    interface.named = named;
                }
            }
            Event::Attached { number, hook, missed } => {
                if let Some(interface) = self.register.get(number) {
                    interface.attached(hook);
                    if interface.named.older && self.gaps_reported.insert(interface.key) {
                        interface.report_gap_until(now_ms.div_euclid(1000));
                    }
                }
                self.miss(number, Uncounted::BeforeAttach, missed);
            }
            Event::Removed { number } => {
                if let Some(interface) = self.register.get(number) {
                    interface.removed();
                }
            }
            Event::Restored { number, hook, missed } => {
                if let Some(interface) = self.register.get(number) {
                    interface.attached(hook);
                }
                self.miss(number, Uncounted::HookRemoved, missed);
            }
            Event::Carried { number, key, carried, unseen } => {
                if let Some(interface) = self.register.get(number).filter(|it| it.key == key) {
                    interface.account.carry(carried);
                    let certain = interface.certain(unseen);
                    self.miss(number, Uncounted::Unseen, certain);
                }
            }
            Event::Retire { number } => {
                if let Some(interface) = self.register.get(number) {
                    interface.advance(Stage::Retired);
                }
            }
        }
    }

    /// Adds traffic of an interface that passed uncounted.
    pub(super) fn miss(
        &mut self,
        number: InterfaceNumber,
        reason: Uncounted,
        missed: [Traffic; 2],
    ) {
        if let Some(interface) = self.register.get(number) {
            interface.account.miss(reason, missed);
            self.uncounted.add(reason, missed);
        }
    }

    fn put(&mut self, number: InterfaceNumber, key: InterfaceKey, named: Named) {
        // Records of the first window may be held for the length of one more window.
        let patience = self.window.end + i64::from(self.limits.window_seconds);
        self.register.put(number, key, named, patience * 1000);
        self.share();
    }

    /// Adds counts that arrived before their interface was registered. Call after handling all
    /// pending events.
    pub fn add_early(&mut self) {
        for delta in self.register.take_early() {
            self.register.add(&mut self.flows, self.window, delta);
        }
    }

    /// Adds an entry of the spill ring.
    pub fn add(&mut self, delta: Delta) -> Kept {
        match self.register.add(&mut self.flows, self.window, delta) {
            Placed::Refused => Kept::Not,
            Placed::Recorded | Placed::Early => Kept::Open,
        }
    }

    /// Begins a tick. Call after handling all pending events, and before the drain switches
    /// the halves of the cache.
    pub fn begin(&mut self, now_ms: i64) -> OpenTick {
        let is_over = self.window.is_over(now_ms);
        OpenTick {
            next: is_over.then(|| self.window.next(now_ms, self.limits.window_seconds)),
            ..self.begin_last(now_ms)
        }
    }

    /// Begins the last tick of a run, in which [`finish`](Self::finish) closes the window.
    pub fn begin_last(&mut self, now_ms: i64) -> OpenTick {
        let retired = self.register.all().filter(|interface| interface.stage() == Stage::Retired);
        OpenTick {
            now_ms,
            next: None,
            next_flows: Table::new(),
            retired: retired.map(|interface| interface.number).collect(),
        }
    }

    /// Adds a count from the drain. `after_flip` is true if it was counted after the switch of
    /// halves in this tick.
    pub fn add_drained(&mut self, tick: &mut OpenTick, after_flip: bool, delta: Delta) -> Kept {
        match tick.next {
            // In a late tick, some flows began after the end of the window.
            Some(next) if after_flip || delta.counters.first_ms >= self.window.end * 1000 => {
                match self.register.add(&mut tick.next_flows, next, delta) {
                    Placed::Refused => Kept::Not,
                    Placed::Recorded | Placed::Early => Kept::Next,
                }
            }
            _ => self.add(delta),
        }
    }

    /// Adds undelivered packets to an accepted flow. Returns false if the flow is in no window.
    pub fn note_undelivered(&mut self, tick: &mut OpenTick, key: &FlowKey, packets: u64) -> bool {
        self.flows.note_undelivered(key, packets) || tick.next_flows.note_undelivered(key, packets)
    }

    /// Reads the ledgers of all interfaces, and passes the growth of each to `grew`.
    pub fn read(
        &mut self,
        ledgers_of: impl Fn(InterfaceNumber) -> [Ledger; 2],
        mut grew: impl FnMut(Direction, &Ledger),
    ) {
        for interface in self.register.all() {
            let growth = interface.account.read(&ledgers_of(interface.number));
            for direction in Direction::ALL {
                grew(direction, &growth[direction as usize]);
            }
        }
    }

    /// Sets the drops of an interface, by direction, that may lie ahead of its hooks in the path of a
    /// packet. They explain frames that the hooks did not see.
    pub fn explain(&mut self, number: InterfaceNumber, dropped: [Traffic; 2]) {
        if let Some(interface) = self.register.get(number) {
            interface.explain(dropped);
        }
    }

    /// Ends a tick. Closes the window if it is over.
    pub fn end(&mut self, tick: OpenTick, extras: BatchExtras) -> Outcome {
        let OpenTick { now_ms, next, next_flows, retired } = tick;
        self.complete(&retired, &next_flows);
        let mut outcome = self.outcome();
        if let Some(next) = next {
            let mut batch =
                self.close_window(self.window, extras, next_flows.in_memory(), &mut outcome);
            let waiting = self.waiting(now_ms);
            if !waiting.is_empty() {
                self.held.push(Held::split(&mut batch, &waiting, &self.limits.room));
            }
            outcome.held = waiting;
            outcome.batches.push(batch);
            self.open_window(next, next_flows);
        }
        let waiting = self.waiting(now_ms);
        self.release(&waiting, &mut outcome);
        outcome
    }

    /// Ends the last tick of a run. Closes the window now, and releases all held records.
    #[expect(clippy::needless_pass_by_value, reason = "takes the tick, so that it ends once")]
    pub fn finish(&mut self, tick: OpenTick, extras: BatchExtras) -> Outcome {
        self.complete(&tick.retired, &tick.next_flows);
        let mut outcome = self.outcome();
        self.release(&BTreeSet::new(), &mut outcome);
        let window = self.last_window(&tick);
        let batch = self.close_window(window, extras, 0, &mut outcome);
        outcome.batches.push(batch);
        outcome
    }

    /// Completes the interfaces that were retired before the flip, because the drain has delivered
    /// all their counts. An interface with flows in the next window stays until that window is
    /// closed.
    fn complete(&mut self, retired: &[InterfaceNumber], next_flows: &Table) {
        if retired.is_empty() {
            // Most ticks: the flows of the next window need not be searched.
            return;
        }
        let in_next: BTreeSet<_> = next_flows.flows().map(|delta| delta.key.interface()).collect();
        for number in retired.iter().filter(|number| !in_next.contains(number)) {
            if let Some(interface) = self.register.get(*number) {
                interface.advance(Stage::Complete);
            }
        }
    }

    /// Begins the outcome with the sums since the last tick.
    fn outcome(&mut self) -> Outcome {
        let refused = self.register.take_refused();
        self.refused_packets += refused.traffic.packets;
        Outcome {
            uncounted: std::mem::take(&mut self.uncounted),
            refused: refused.traffic,
            rejects_refused: refused.rejected_packets,
            ..Outcome::default()
        }
    }

    /// Closes the open window, and returns all its records. `window` has its actual end.
    /// `next_flows` is the number of flows that are already in the next one.
    fn close_window(
        &mut self,
        window: Window,
        extras: BatchExtras,
        next_flows: usize,
        outcome: &mut Outcome,
    ) -> Batch {
        outcome.late += self.flows.settle();
        outcome.refused_in_window = std::mem::take(&mut self.refused_packets);
        let BatchExtras { owners, mark, sequence } = extras;
        let flows = std::mem::take(&mut self.flows);
        let room = &self.limits.room;
        let mut batch = Batch {
            room: (Some(room.claim(flows.in_memory())), Some(Arc::new(room.claim(owners.len())))),
            flows,
            owners: Arc::new(owners),
            mark,
            id: sequence.map(|sequence| BatchId { sequence, held: false }),
            ..Batch::new(window)
        };
        for interface in self.register.all().filter(|interface| interface.stage() != Stage::Closed)
        {
            batch.subjects.insert(interface.number, Arc::clone(&interface.named.subject));
            let (line, gap_until) = interface.end_window();
            match line {
                Line::Flows => {}
                Line::Silent => batch.silent.push(interface.number),
                Line::Lossy(lost) => batch.lossy.push((interface.number, lost)),
            }
            if let Some(end) = gap_until
                && let Some(start) = self.limits.recorded_until.filter(|start| *start < end)
            {
                batch.gaps.push((interface.number, Window { start, end }));
            }
        }
        outcome.out_of_memory = self.register.close_window(next_flows);
        self.share();
        batch
    }

    /// Opens a window that already has flows. Their packets were added to the interfaces' sums of
    /// the previous window, which have been reset since, so they are added again.
    fn open_window(&mut self, window: Window, flows: Table) {
        self.window = window;
        for delta in flows.flows() {
            if let Some(interface) = self.register.get(delta.key.interface()) {
                if !delta.key.is_rejected_behind_hook() {
                    let Counters { packets, bytes, .. } = delta.counters;
                    interface.window_traffic[delta.key.direction() as usize] +=
                        Traffic { packets, bytes };
                }
                interface.window_flows += 1;
            }
        }
        self.flows = flows;
    }

    /// Interfaces whose records are held at this time.
    fn waiting(&mut self, now_ms: i64) -> BTreeSet<InterfaceNumber> {
        self.register.all().filter(|it| it.is_waiting(now_ms)).map(|it| it.number).collect()
    }

    /// Releases held records that wait for none of these interfaces. Frees the numbers of closed
    /// accounts that no held record uses.
    fn release(&mut self, waiting: &BTreeSet<InterfaceNumber>, outcome: &mut Outcome) {
        let (held, ready): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.held).into_iter().partition(|held| held.is_for(waiting));
        self.held = held;
        for held in ready {
            let mut batch = held.release();
            for (number, subject) in &mut batch.subjects {
                if let Some(interface) = self.register.get(*number) {
                    *subject = Arc::clone(&interface.named.subject);
                }
            }
            outcome.batches.push(batch);
        }
        self.total(waiting, outcome);
        let needed: BTreeSet<_> = self.held.iter().flat_map(Held::numbers).collect();
        let is_free = |number: &InterfaceNumber| !needed.contains(number);
        let closed = self.register.all().filter(|interface| interface.stage() == Stage::Closed);
        outcome.freed = closed.map(|interface| interface.number).filter(is_free).collect();
        for number in &outcome.freed {
            self.register.remove(*number);
        }
    }

    /// Moves newly recorded traffic to totals that outlive the interface, except while an identity
    /// is awaited: totals cannot be moved to another identity.
    fn total(&mut self, waiting: &BTreeSet<InterfaceNumber>, outcome: &mut Outcome) {
        for interface in
            self.register.all().filter(|interface| !waiting.contains(&interface.number))
        {
            let subject = &interface.named.subject;
            let recorded = interface.account.take_recorded();
            outcome.recorded.extend(recorded.map(|(direction, protocol, traffic)| {
                (Arc::clone(subject), direction, protocol, traffic)
            }));
        }
    }

    /// Held records, which the journal would have.
    #[cfg(test)]
    pub(super) fn take_held(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.held).into_iter().map(Held::release).collect()
    }

    pub(super) fn share(&mut self) {
        let open = self.register.open();
        self.register.share_among(open);
    }
}
