use std::{hash::BuildHasher, sync::Arc};

use observer_ebpf::abi::Ledger;

use super::{Account, Named, Standing, unexplained::Unexplained};
use crate::{
    flow::{InterfaceNumber, Traffic},
    record::Subject,
    tasks::InterfaceKey,
};

/// Stages of an interface's account. An account never returns to an earlier stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Packets are counted, or are about to be.
    Open,
    /// The programs are detached. Counts may still be in the kernel.
    Retired,
    /// A drain has completed since then. All counts are in the open window or an earlier one.
    Complete,
    /// The window with the last counts is closed. Only held records still use the number.
    Closed,
}

/// Account of one interface of the host, from its registration to its last record.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) number: InterfaceNumber,
    pub(super) key: InterfaceKey,
    pub(super) named: Named,
    pub(super) account: Account,
    /// Traffic that bypassed the programs and is not explained by drops before the hook, by
    /// direction.
    unexplained: [Unexplained; 2],
    /// Drops that may have happened before the hook, by direction.
    explained: [Traffic; 2],
    stage: Stage,
    /// Short ID in the metrics.
    id: Arc<str>,
    /// Name of the hook that counts ingress; `None` until both directions are attached. The
    /// interface is in the metrics from then on.
    hook: Option<&'static str>,
    /// True if all its traffic was missed, and the amount can no longer be read from the kernel.
    is_unseen: bool,
    /// True until an interface that an earlier run observed is observed by this one.
    is_continued: bool,
    /// True while its programs are removed: packets pass uncounted, and their number is not known
    /// yet.
    is_removed: bool,
    /// UNIX milliseconds until which its records may be held.
    patience_ms: i64,
    /// UNIX seconds at which counting began, if the time before is a gap to report.
    gap_until: Option<i64>,
    /// Traffic in the open window, by direction.
    pub(super) window_traffic: [Traffic; 2],
    /// Flows in the open window.
    pub(super) window_flows: usize,
}

/// Sums of an interface, for the metrics.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Number of the interface in the programs.
    pub number: InterfaceNumber,
    /// Short ID. It stays the same as long as the interface is observed, also across restarts of
    /// the daemon.
    pub id: Arc<str>,
    /// Identity of the interface.
    pub subject: Arc<Subject>,
    /// Name of the hook that counts ingress.
    pub hook: &'static str,
    /// Sums of the interface.
    pub account: Account,
}

/// The line about an interface in a closing window, in addition to its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// No line: flows only.
    Flows,
    /// NODATA: the interface carried no packet.
    Silent,
    /// SKIPDATA: traffic that is in no record.
    Lossy(Traffic),
}

impl Interface {
    pub(super) fn new(
        number: InterfaceNumber,
        key: InterfaceKey,
        named: Named,
        patience_ms: i64,
        base: &[Ledger; 2],
    ) -> Self {
        // Made of values that survive a restart of the daemon, so that its time series continue.
        let identity = (key.netns, key.ifindex, &named.subject.mac);
        let hash = foldhash::quality::FixedState::default().hash_one(identity);
        Self {
            number,
            key,
            named,
            account: Account::opened_at(*base),
            unexplained: [Unexplained::default(); 2],
            explained: [Traffic::NONE; 2],
            stage: Stage::Open,
            id: format!("{:08x}", hash as u32).into(),
            hook: None,
            is_unseen: false,
            is_continued: false,
            is_removed: false,
            patience_ms,
            gap_until: None,
            window_traffic: [Traffic::NONE; 2],
            window_flows: 0,
        }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Moves to a later stage. An earlier stage is ignored.
    pub(super) fn advance(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage);
    }

    /// Records that both directions are attached, for the first time or again.
    pub(super) fn attached(&mut self, hook: &'static str) {
        self.hook = Some(hook);
        self.is_removed = false;
    }

    /// Records that the programs were removed.
    pub(super) fn removed(&mut self) {
        self.is_removed = true;
    }

    /// Sets the drops that may have happened before the hook. Traffic that they explain has not
    /// bypassed the programs.
    pub(super) const fn explain(&mut self, explained: [Traffic; 2]) {
        self.explained = explained;
    }

    /// Returns the part of newly unseen traffic that no drop explains, by direction.
    pub(super) fn certain(&mut self, unseen: [Traffic; 2]) -> [Traffic; 2] {
        std::array::from_fn(|side| self.unexplained[side].add(unseen[side], self.explained[side]))
    }

    /// Records that the interface was gone before any packet was counted.
    pub(super) fn missed(&mut self) {
        self.is_unseen = true;
        self.advance(Stage::Retired);
    }

    /// Reports the time before `unix_seconds` as a gap, with the next window that closes.
    pub(super) fn report_gap_until(&mut self, unix_seconds: i64) {
        self.gap_until = Some(unix_seconds);
    }

    /// True if the records are held at this time, because a source may still identify the
    /// interface.
    pub(super) fn is_waiting(&self, unix_ms: i64) -> bool {
        self.named.awaits_identity && unix_ms < self.patience_ms
    }

    /// Ends the open window. Returns the line about the interface, and the end of a gap to report.
    /// Closes the account if it is complete.
    pub(super) fn end_window(&mut self) -> (Line, Option<i64>) {
        let lost = self.account.report_losses();
        let line = if !lost.is_none() || self.is_unseen || self.is_removed {
            Line::Lossy(lost)
        } else if self.window_traffic == [Traffic::NONE; 2] && self.hook.is_some() {
            Line::Silent
        } else {
            Line::Flows
        };
        (self.window_traffic, self.window_flows) = ([Traffic::NONE; 2], 0);
        if self.stage == Stage::Complete {
            self.advance(Stage::Closed);
        }
        (line, self.gap_until.take())
    }

    /// State of the account, for a later run.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            number: self.number,
            key: self.key,
            named: self.named.clone(),
            attached: self.hook.is_some(),
            retired: self.stage != Stage::Open,
            accounted: self.account.accounted(),
            unreported: self.account.unreported(),
            window: self.window_traffic,
        }
    }

    /// Continues the account of an earlier run. Its counts so far are in the records of that run, or
    /// are added again.
    pub(super) fn continued(standing: Standing, patience_ms: i64) -> Self {
        let Standing { number, key, named, retired, accounted, unreported, .. } = standing;
        let mut interface = Self::new(number, key, named, patience_ms, &accounted);
        interface.account.inherit(unreported);
        interface.is_continued = true;
        if retired {
            interface.advance(Stage::Retired);
        }
        interface
    }

    /// Sets the traffic of the open window that an earlier run has recorded.
    pub(super) const fn set_window(&mut self, traffic: [Traffic; 2]) {
        self.window_traffic = traffic;
    }

    /// Takes over the interface from an earlier run. Returns false if this account began in this
    /// run.
    pub(super) fn take_over(&mut self, key: InterfaceKey, named: &Named) -> bool {
        if self.stage != Stage::Open || !std::mem::take(&mut self.is_continued) {
            return false;
        }
        self.key = key;
        // The records of the earlier run were not held either.
        self.named = Named { awaits_identity: false, older: false, ..named.clone() };
        true
    }

    /// Sums for the metrics; `None` before the interface is attached and after its account is
    /// closed.
    pub(super) fn figures(&self) -> Option<Figures> {
        let hook = self.hook.filter(|_| self.stage != Stage::Closed)?;
        Some(Figures {
            number: self.number,
            id: Arc::clone(&self.id),
            subject: Arc::clone(&self.named.subject),
            hook,
            account: self.account,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{
        Uncounted,
        examples::{named, number},
    };

    fn interface() -> Interface {
        let key = InterfaceKey { netns: 7, birth: 7, ifindex: 2 };
        Interface::new(number(1), key, named("eth0"), 100_000, &[Ledger::default(); 2])
    }

    #[test]
    fn a_stage_gives_way_to_later_ones_only() {
        let stages = [Stage::Open, Stage::Retired, Stage::Complete, Stage::Closed];
        for (from, now) in stages.into_iter().enumerate() {
            for (to, next) in stages.into_iter().enumerate() {
                let mut interface = interface();
                interface.advance(now);
                interface.advance(next);
                assert_eq!(interface.stage(), stages[from.max(to)], "{now:?} then {next:?}");
            }
        }
    }

    #[test]
    fn the_line_of_a_window_follows_from_what_passed() {
        type Case = (&'static str, fn(&mut Interface), Line);
        let lost = Traffic { packets: 2, bytes: 80 };
        let cases: [Case; 7] = [
            ("before it is attached", |_| {}, Line::Flows),
            ("attached and silent", |it| it.attached("tc"), Line::Silent),
            (
                "attached and counted",
                |it| {
                    it.attached("tc");
                    it.window_traffic[0] = Traffic { packets: 1, bytes: 40 };
                },
                Line::Flows,
            ),
            (
                "with traffic from before it was attached",
                |it| {
                    it.attached("tc");
                    it.account.miss(
                        Uncounted::BeforeAttach,
                        [Traffic { packets: 2, bytes: 80 }, Traffic::NONE],
                    );
                },
                Line::Lossy(lost),
            ),
            (
                "with a refused flow",
                |it| {
                    it.account.refuse(
                        observer_ebpf::abi::Direction::Ingress,
                        Traffic { packets: 2, bytes: 80 },
                    );
                },
                Line::Lossy(lost),
            ),
            ("with its programs removed", Interface::removed, Line::Lossy(Traffic::NONE)),
            ("gone before it was attached", Interface::missed, Line::Lossy(Traffic::NONE)),
        ];
        for (name, happens, line) in cases {
            let mut interface = interface();
            happens(&mut interface);
            assert_eq!(interface.end_window(), (line, None), "{name}");
        }
    }

    #[test]
    fn only_a_complete_account_is_closed_with_the_window() {
        for (stage, after) in [
            (Stage::Open, Stage::Open),
            (Stage::Retired, Stage::Retired),
            (Stage::Complete, Stage::Closed),
            (Stage::Closed, Stage::Closed),
        ] {
            let mut interface = interface();
            interface.advance(stage);
            interface.end_window();
            assert_eq!(interface.stage(), after);
        }
    }

    #[test]
    fn a_gap_is_reported_with_one_window() {
        let mut interface = interface();
        interface.report_gap_until(90);
        assert_eq!(interface.end_window().1, Some(90));
        assert_eq!(interface.end_window().1, None);
    }

    #[test]
    fn records_are_held_while_an_identity_may_come() {
        let mut interface = interface();
        assert!(!interface.is_waiting(0));
        interface.named.awaits_identity = true;
        assert!(interface.is_waiting(99_999));
        assert!(!interface.is_waiting(100_000));
    }

    #[test]
    fn sums_are_shown_from_the_attachment_to_the_last_window() {
        let mut interface = interface();
        assert!(interface.figures().is_none());
        interface.attached("tc");
        assert!(interface.figures().is_some());
        interface.advance(Stage::Closed);
        assert!(interface.figures().is_none());
    }
}
