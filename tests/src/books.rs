//! Comparison of records, ledger, metrics, interface counters and generated traffic. They must
//! agree to the last byte.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

pub use crate::sums::Sums;
use crate::{
    briefs::Briefs,
    counters::Counters,
    daemon::Daemon,
    metrics::{Ledger, Metrics},
    poll,
    records::{Records, unfinished},
    tally::{Crossed, Direction, Tally},
    veth::{Interface, Mac},
};

/// All accounts of one stopped daemon.
#[derive(Debug)]
pub struct Books<R = Records> {
    /// The records that it wrote.
    pub records: R,
    /// Its last metrics page.
    pub metrics: Metrics,
    /// The kernel's interface counters at that time.
    pub counters: BTreeMap<Mac, Counters>,
    /// The daemon's standard output.
    pub stdout: String,
    said: String,
}

impl Books {
    /// Waits until the daemon has drained all traffic of `interfaces`, stops it, and reads its
    /// files.
    ///
    /// No traffic may cross the interfaces any more. If the accounts never agree, the assertions
    /// report it.
    pub fn close<'a>(
        daemon: Daemon<'_>,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<Self> {
        Self::close_all(daemon, interfaces)
    }
}

impl Books<Briefs> {
    /// [`close`](Books::close), for hundreds of thousands of records.
    pub fn close_in_brief<'a>(
        daemon: Daemon<'_>,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<Self> {
        Self::close_all(daemon, interfaces)
    }
}

impl<R: Sums> Books<R> {
    fn close_all<'a>(
        daemon: Daemon<'_>,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<Self> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let interfaces: Vec<&Interface> = interfaces.into_iter().collect();
        let counters = interfaces
            .iter()
            .map(|interface| Ok((interface.mac(), interface.counters()?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        // A drain that begins now includes all traffic; the page shows its result after the next
        // drain at the latest.
        let drains = |page: &Metrics| {
            page.sum("observer_drain_duration_seconds_count", &[("phase", "read")])
        };
        let enough = drains(&daemon.metrics()?) + 2;
        let settled = |page: &Metrics| {
            drains(page) >= enough
                && interfaces.iter().all(|interface| {
                    let Some(ledger) = page.ledger(interface) else { return false };
                    let recorded = page.recorded(interface);
                    Direction::ALL.into_iter().zip(ledger).all(|(direction, ledger)| {
                        let counted = counters[&interface.mac()].frames.get(direction).packets;
                        let counted =
                            !comparable(interface, direction) || ledger.frames.packets >= counted;
                        counted
                            && recorded.get(direction) + ledger.lost == ledger.seen + ledger.stopped
                    })
                })
        };
        // A page that never settles is kept for the assertions.
        let _ = poll::until_true("the daemon has drained all", PATIENCE, || {
            Ok(settled(&daemon.metrics()?))
        });
        let metrics = daemon.metrics()?;
        if let Some((_, label)) = daemon.hook().xdp() {
            for interface in &interfaces {
                let hook = metrics.info(interface).map_or("", |info| info.label("hook"));
                ensure!(
                    hook == label,
                    "{} is counted by {hook:?}, not {label}; {}",
                    interface.id(),
                    daemon.said()
                );
            }
        }
        let stopped = daemon.stop()?;
        let left = unfinished(&stopped.out)?;
        ensure!(left.is_empty(), "unfinished files after the end: {left:?}");
        let records = R::read(&stopped.out).with_context(|| stopped.said.clone())?;
        Ok(Self { records, metrics, counters, stdout: stopped.stdout, said: stopped.said })
    }

    /// The ledger of an interface; zeros if it is not on the page.
    pub fn ledger(&self, interface: &Interface) -> [Ledger; 2] {
        self.metrics.ledger(interface).unwrap_or_default()
    }

    /// Packets that the host's policy dropped before they crossed an interface.
    pub fn stopped(&self, interface: &Interface) -> Crossed {
        let [ingress, egress] = self.ledger(interface).map(|ledger| ledger.stopped);
        Crossed { ingress, egress }
    }

    /// Asserts that every account of the daemon equals `sent`, the generated traffic of
    /// `interface`, with no losses.
    pub fn assert_exact(&self, interface: &Interface, sent: Crossed) {
        self.assert_conserved(interface, sent);
        let unseen = self.metrics.uncounted(interface, "unseen");
        assert_eq!(unseen, Crossed::default(), "told as unseen on {}", interface.id());
        assert_eq!(self.lost(interface), Tally::default(), "lost on {}", interface.id());
    }

    /// Asserts that recorded and lost packets add up to `sent` and the stopped packets, to the last
    /// byte.
    pub fn assert_conserved(&self, interface: &Interface, sent: Crossed) {
        let (id, mac) = (interface.id(), interface.mac());
        assert!(
            self.metrics.ledger(interface).is_some(),
            "{id} is on no page:\n{}",
            self.metrics.text
        );
        let ledger = self.ledger(interface);
        let (recorded, series) = (self.records.recorded(mac), self.metrics.recorded(interface));
        for (direction, ledger) in Direction::ALL.into_iter().zip(ledger) {
            let sent = sent.get(direction);
            let recorded = recorded.get(direction);
            assert_eq!(ledger.seen, sent, "{id} {direction}: ledger, and what was sent");
            assert_eq!(
                recorded + ledger.lost,
                sent + ledger.stopped,
                "{id} {direction}: {recorded} in records and {} lost, and what was sent or stopped before it was",
                ledger.lost
            );
            assert_eq!(
                recorded,
                series.get(direction),
                "{id} {direction}: records, and series of flows"
            );
            if comparable(interface, direction) {
                self.assert_frames(interface, direction, ledger.frames);
            }
        }
        assert_eq!(
            self.records.lost(mac),
            self.lost(interface),
            "{id}: SKIPDATA records, and the ledger's losses"
        );
    }

    /// Asserts that the daemon saw every frame that the interface counted.
    pub fn assert_frames(&self, interface: &Interface, direction: Direction, seen: Tally) {
        let Some(counters) = self.counters.get(&interface.mac()) else { return };
        assert_eq!(counters.dropped, 0, "{} dropped frames of the generator", interface.id());
        let counted = counters.frames.get(direction);
        assert_eq!(
            seen,
            counted,
            "{} {direction}: frames seen, and the interface's counters",
            interface.id()
        );
    }

    /// Packets lost according to the ledger, both directions together.
    pub fn lost(&self, interface: &Interface) -> Tally {
        self.ledger(interface).iter().map(|ledger| ledger.lost).sum()
    }
}

/// True if the hook sees the same frames as the interface counts: not if frames are merged before
/// the hook or segmented behind it. Since Linux 4.17 TCP makes super-packets for every interface
/// (kernel commit 0a6b2a1dc2a2).
fn comparable(interface: &Interface, direction: Direction) -> bool {
    let offloads = interface.offloads();
    match direction {
        Direction::Ingress => !offloads.merges(),
        Direction::Egress => offloads.tso,
    }
}

impl<R> Drop for Books<R> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.said);
        }
    }
}
