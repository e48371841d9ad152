use observer_ebpf::abi::{Direction, Ledger};

use super::{Frames, Protocol, Uncounted, UncountedLosses};
use crate::flow::Traffic;

/// Packets and bytes of one interface by direction: seen, recorded and lost.
///
/// The kernel's ledgers are never reset. If the number belonged to another interface before, the
/// account therefore starts from a base.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    base: [Ledger; 2],
    ledger: [Ledger; 2],
    recorded: [[Traffic; Protocol::ALL.len()]; 2],
    refused: [Traffic; 2],
    uncounted: UncountedLosses,
    /// Frames by the interface's own counters since it was attached, by direction.
    carried: [Frames; 2],
    /// Recorded traffic that [`take_recorded`](Self::take_recorded) has returned for the totals of
    /// the service, by direction and protocol.
    totalled: [[Traffic; Protocol::ALL.len()]; 2],
    /// Losses that are already reported.
    reported: Traffic,
    /// Losses that an earlier run has counted and not reported.
    inherited: Traffic,
}

/// The equation of one interface and direction.
///
/// It holds after a drain has delivered everything that the programs have counted. Until then,
/// `recorded` lags behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Traffic that the hook saw.
    pub seen: Traffic,
    /// Traffic that host policy dropped before it reached the hook.
    pub stopped: Traffic,
    /// Traffic in records.
    pub recorded: Traffic,
    /// Traffic that was seen or stopped, and is counted as lost.
    pub lost: Traffic,
}

impl Statement {
    /// True if all traffic that was seen or stopped is recorded or lost.
    pub fn is_exact(&self) -> bool {
        self.seen + self.stopped == self.recorded + self.lost
    }
}

impl Account {
    /// Opens an account. `base` is the current reading of the ledgers.
    pub fn opened_at(base: [Ledger; 2]) -> Self {
        Self { base, ..Self::default() }
    }

    /// Takes a reading of the ledgers. Returns their growth since the previous reading.
    pub fn read(&mut self, now: &[Ledger; 2]) -> [Ledger; 2] {
        std::array::from_fn(|direction| {
            let ledger = now[direction].since(&self.base[direction]);
            let growth = ledger.since(&self.ledger[direction]);
            self.ledger[direction] = ledger;
            growth
        })
    }

    /// Ledger readings at the end of the account: the base of the next account under the same
    /// number.
    pub fn close(&self) -> [Ledger; 2] {
        std::array::from_fn(|direction| self.base[direction].plus(&self.ledger[direction]))
    }

    /// Adds recorded traffic of an IANA protocol number.
    pub fn record(&mut self, direction: Direction, protocol: u8, traffic: Traffic) {
        self.recorded[direction as usize][Protocol::of(protocol) as usize] += traffic;
    }

    /// Adds traffic for which the window had no room.
    pub fn refuse(&mut self, direction: Direction, traffic: Traffic) {
        self.refused[direction as usize] += traffic;
    }

    /// Adds traffic that crossed the interface and was not counted by its programs. It is in no
    /// ledger.
    pub fn miss(&mut self, reason: Uncounted, missed: [Traffic; 2]) {
        self.uncounted.add(reason, missed);
    }

    /// Sets the frames by the interface's own counters since it was attached, by direction.
    pub const fn carry(&mut self, carried: [Frames; 2]) {
        self.carried = carried;
    }

    /// Growth of the kernel's ledgers since the account was opened, by direction.
    pub const fn ledger(&self) -> &[Ledger; 2] {
        &self.ledger
    }

    /// Recorded traffic, by direction and protocol.
    pub const fn recorded(&self) -> &[[Traffic; Protocol::ALL.len()]; 2] {
        &self.recorded
    }

    /// Traffic for which the window had no room, by direction.
    pub const fn refused(&self) -> [Traffic; 2] {
        self.refused
    }

    /// Traffic that the programs did not count, by reason and direction.
    pub const fn uncounted(&self) -> &UncountedLosses {
        &self.uncounted
    }

    /// Frames by the interface's own counters since it was attached, by direction.
    pub const fn carried(&self) -> [Frames; 2] {
        self.carried
    }

    /// Returns traffic recorded since the last call, by direction and protocol.
    pub fn take_recorded(&mut self) -> impl Iterator<Item = (Direction, Protocol, Traffic)> {
        let before = std::mem::replace(&mut self.totalled, self.recorded);
        let recorded = self.recorded;
        let sums = Direction::ALL
            .into_iter()
            .flat_map(|direction| Protocol::ALL.map(|protocol| (direction, protocol)));
        sums.filter_map(move |(direction, protocol)| {
            let of = |sums: &[[Traffic; Protocol::ALL.len()]; 2]| {
                sums[direction as usize][protocol as usize]
            };
            let new = of(&recorded) - of(&before);
            (!new.is_none()).then_some((direction, protocol, new))
        })
    }

    /// Returns losses that are not reported yet, and marks them as reported.
    pub fn report_losses(&mut self) -> Traffic {
        let unreported = self.unreported();
        self.reported += unreported;
        unreported
    }

    /// Losses that are not reported yet.
    pub fn unreported(&self) -> Traffic {
        let ever =
            Direction::ALL.into_iter().map(|direction| self.lost(direction)).sum::<Traffic>()
                + self.uncounted.total()
                + self.inherited;
        ever - self.reported
    }

    /// Adds losses that an earlier run has counted and not reported.
    pub fn inherit(&mut self, unreported: Traffic) {
        self.inherited += unreported;
    }

    /// Takes traffic out of the growth of the ledgers: an earlier run has seen it.
    pub fn disown(&mut self, traffic: [Traffic; 2]) {
        for (side, Traffic { packets, bytes }) in traffic.into_iter().enumerate() {
            let (base, ledger) = (&mut self.base[side], &mut self.ledger[side]);
            base.packets = base.packets.wrapping_add(packets);
            base.bytes = base.bytes.wrapping_add(bytes);
            ledger.packets = ledger.packets.wrapping_sub(packets);
            ledger.bytes = ledger.bytes.wrapping_sub(bytes);
        }
    }

    /// Ledgers of exactly the traffic that is recorded or lost, by direction. The kernel's ledgers
    /// are ahead by the flows that are still in its cache.
    pub fn accounted(&self) -> [Ledger; 2] {
        let mut ledgers = self.close();
        for (ledger, direction) in ledgers.iter_mut().zip(Direction::ALL) {
            let Statement { seen, stopped, recorded, lost } = self.statement(direction);
            // Wraps like the ledgers.
            let ahead = |sum: fn(Traffic) -> u64| {
                (sum(seen).wrapping_add(sum(stopped)))
                    .wrapping_sub(sum(recorded).wrapping_add(sum(lost)))
            };
            ledger.packets = ledger.packets.wrapping_sub(ahead(|it| it.packets));
            ledger.bytes = ledger.bytes.wrapping_sub(ahead(|it| it.bytes));
        }
        ledgers
    }

    /// The equation of one direction.
    pub fn statement(&self, direction: Direction) -> Statement {
        let Ledger { packets, bytes, stopped, .. } = self.ledger[direction as usize];
        Statement {
            seen: Traffic { packets, bytes },
            stopped: stopped.into(),
            recorded: self.recorded[direction as usize].into_iter().sum(),
            lost: self.lost(direction),
        }
    }

    /// Losses in the kernel, for all reasons, and traffic for which the window had no room.
    fn lost(&self, direction: Direction) -> Traffic {
        let kernel = self.ledger[direction as usize].lost;
        kernel.into_iter().map(Traffic::from).sum::<Traffic>() + self.refused[direction as usize]
    }
}

#[cfg(test)]
mod tests {
    use observer_ebpf::abi::{Loss, LossReason};

    use super::*;

    const IN: Direction = Direction::Ingress;

    fn traffic(packets: u64) -> Traffic {
        Traffic { packets, bytes: packets * 100 }
    }

    fn ledger(seen: u64, lost: u64) -> Ledger {
        let mut ledger = Ledger { packets: seen, bytes: seen * 100, ..Ledger::default() };
        ledger.lost[LossReason::TableFull as usize] = Loss { packets: lost, bytes: lost * 100 };
        ledger
    }

    #[test]
    fn what_was_under_the_number_before_does_not_count() {
        let mut account = Account::opened_at([ledger(50, 7), ledger(0, 0)]);
        let growth = account.read(&[ledger(60, 9), ledger(0, 0)]);
        assert_eq!((growth[0].packets, growth[0].lost[0].packets), (10, 2));
        account.record(IN, 6, traffic(8));
        let statement = account.statement(IN);
        assert_eq!((statement.seen, statement.lost), (traffic(10), traffic(2)));
        assert!(statement.is_exact());
        assert_eq!(account.close()[0], ledger(60, 9));
    }

    #[test]
    fn a_packet_that_is_in_neither_breaks_the_equation() {
        let mut account = Account::default();
        account.read(&[ledger(10, 2), ledger(0, 0)]);
        account.record(IN, 17, traffic(7));
        assert!(!account.statement(IN).is_exact());
        account.refuse(IN, traffic(1));
        assert!(account.statement(IN).is_exact());
    }

    #[test]
    fn packets_that_were_stopped_are_recorded_or_lost_like_those_seen() {
        let mut account = Account::default();
        let stopped = Ledger { stopped: Loss { packets: 3, bytes: 300 }, ..ledger(1, 0) };
        account.read(&[stopped, ledger(0, 0)]);
        account.record(IN, 6, traffic(4));
        assert!(account.statement(IN).is_exact());
    }

    #[test]
    fn each_loss_is_reported_once() {
        let mut account = Account::default();
        account.read(&[ledger(10, 2), ledger(5, 1)]);
        account.miss(Uncounted::BeforeAttach, [traffic(4), Traffic::NONE]);
        assert_eq!(account.report_losses(), traffic(7));
        assert!(account.report_losses().is_none());
        account.refuse(IN, traffic(1));
        assert_eq!(account.report_losses(), traffic(1));
    }

    #[test]
    fn what_is_recorded_is_taken_once() {
        let mut account = Account::default();
        account.record(IN, 6, traffic(2));
        account.record(Direction::Egress, 17, traffic(1));
        let taken: Vec<_> = account.take_recorded().collect();
        assert_eq!(
            taken,
            [(IN, Protocol::Tcp, traffic(2)), (Direction::Egress, Protocol::Udp, traffic(1))]
        );
        account.record(IN, 6, traffic(3));
        assert_eq!(account.take_recorded().collect::<Vec<_>>(), [(IN, Protocol::Tcp, traffic(3))]);
        assert_eq!(account.take_recorded().count(), 0);
    }
}
