use std::{hash::BuildHasher, sync::Arc};

use observer_ebpf::abi::Ledger;

use super::{Account, Named, claim::Claim};
use crate::{
    flow::{InterfaceNumber, Traffic},
    record::Subject,
    tasks::InterfaceKey,
};

/// Stages in the life of an interface's account. A stage only ever gives way to a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Packets are counted, or are about to be.
    Open,
    /// The programs are detached; counts may still be in the kernel.
    Retired,
    /// A drain has passed since then: all counts are in the open window, or in an earlier one.
    Complete,
    /// The window with the last counts is closed. Only records that are held still need the number.
    Closed,
}

/// The account of one interface of the host, from its registration to its last record.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) number: InterfaceNumber,
    pub(super) key: InterfaceKey,
    pub(super) named: Named,
    pub(super) account: Account,
    /// Traffic that passed its programs by, less what drops before the hook explain, by direction.
    claims: [Claim; 2],
    /// Drops that may have happened before the hook, by direction.
    explained: [Traffic; 2],
    stage: Stage,
    /// Short name in the metrics.
    id: Arc<str>,
    /// Name of the hook that counts ingress; `None` until both directions are attached. From then
    /// on the interface is in the metrics.
    hook: Option<&'static str>,
    /// All that it carried was missed, and the kernel no longer tells how much that was.
    is_unseen: bool,
    /// Its programs have been removed: packets pass uncounted, and it is not known yet how many.
    is_removed: bool,
    /// UNIX milliseconds until which its records may be held.
    patience_ms: i64,
    /// Since when it is counted, in UNIX seconds, where the time before that is a gap to report.
    gap_until: Option<i64>,
    /// Packets in the open window.
    pub(super) window_packets: u64,
    /// Flows in the open window.
    pub(super) window_flows: usize,
}

/// The sums of an interface, for the metrics.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its number in the programs.
    pub number: InterfaceNumber,
    /// A short id that stays with the interface as long as it is observed, also over restarts of
    /// the daemon.
    pub id: Arc<str>,
    /// Its identity.
    pub subject: Arc<Subject>,
    /// Name of the hook that counts ingress.
    pub hook: &'static str,
    /// Its sums.
    pub account: Account,
}

/// The lines that a closing window holds about an interface, beside its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Flows alone.
    Flows,
    /// It carried no packet: NODATA.
    Silent,
    /// Packets are in no record: SKIPDATA.
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
        // Of what stays the same over a restart of the daemon, so that its series go on.
        let identity = (key.netns, key.ifindex, &named.subject.mac);
        let hash = foldhash::quality::FixedState::default().hash_one(identity);
        Self {
            number,
            key,
            named,
            account: Account::opened_at(*base),
            claims: [Claim::default(); 2],
            explained: [Traffic::NONE; 2],
            stage: Stage::Open,
            id: format!("{:08x}", hash as u32).into(),
            hook: None,
            is_unseen: false,
            is_removed: false,
            patience_ms,
            gap_until: None,
            window_packets: 0,
            window_flows: 0,
        }
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Goes on to a later stage; an earlier one leaves it where it is.
    pub(super) fn advance(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage);
    }

    /// Both directions are attached, for the first time or again.
    pub(super) fn attached(&mut self, hook: &'static str) {
        self.hook = Some(hook);
        self.is_removed = false;
    }

    /// Its programs have been removed.
    pub(super) fn removed(&mut self) {
        self.is_removed = true;
    }

    /// Notes drops that may have happened before the hook: what they explain did not pass the
    /// programs by.
    pub(super) const fn explain(&mut self, explained: [Traffic; 2]) {
        self.explained = explained;
    }

    /// The part of traffic that its programs did not see that no drop explains, by direction.
    pub(super) fn certain(&mut self, unseen: [Traffic; 2]) -> [Traffic; 2] {
        std::array::from_fn(|side| self.claims[side].add(unseen[side], self.explained[side]))
    }

    /// It was gone before anything was counted.
    pub(super) fn missed(&mut self) {
        self.is_unseen = true;
        self.advance(Stage::Retired);
    }

    /// Reports the time before `unix_seconds` as a gap, with the next window.
    pub(super) fn report_gap_until(&mut self, unix_seconds: i64) {
        self.gap_until = Some(unix_seconds);
    }

    /// Whether its records are held at this time, because a source may still identify it.
    pub(super) fn is_waiting(&self, unix_ms: i64) -> bool {
        self.named.awaits_identity && unix_ms < self.patience_ms
    }

    /// Ends the open window: the line that stands in it, and the end of a gap to report. A complete
    /// account is closed.
    pub(super) fn end_window(&mut self) -> (Line, Option<i64>) {
        let lost = self.account.report_losses();
        let line = if !lost.is_none() || self.is_unseen || self.is_removed {
            Line::Lossy(lost)
        } else if self.window_packets == 0 && self.hook.is_some() {
            Line::Silent
        } else {
            Line::Flows
        };
        (self.window_packets, self.window_flows) = (0, 0);
        if self.stage == Stage::Complete {
            self.advance(Stage::Closed);
        }
        (line, self.gap_until.take())
    }

    /// Its sums; `None` before it is attached and once its account is closed.
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
                    it.window_packets = 1;
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
