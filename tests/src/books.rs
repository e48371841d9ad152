//! Whether records, ledger, metrics, interface and generator agree. The residual is exactly 0, or a test fails.

use std::{collections::BTreeMap, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

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

/// Records, as far as the books need them.
pub trait Sums: Sized {
    /// Reads the JSON lines below a directory.
    fn read(directory: &Path) -> Result<Self>;
    /// What the flows of an interface sum up to.
    fn recorded(&self, mac: Mac) -> Crossed;
    /// What the SKIPDATA of an interface sums up to, both ways together.
    fn lost(&self, mac: Mac) -> Tally;
}

impl Sums for Records {
    fn read(directory: &Path) -> Result<Self> {
        Self::read(directory)
    }

    fn recorded(&self, mac: Mac) -> Crossed {
        self.recorded(mac)
    }

    fn lost(&self, mac: Mac) -> Tally {
        self.lost(mac)
    }
}

/// All accounts of one daemon, closed.
#[derive(Debug)]
pub struct Books<R = Records> {
    /// What it wrote.
    pub records: R,
    /// The last page before it stopped.
    pub metrics: Metrics,
    /// The kernel's counters at that time.
    pub counters: BTreeMap<Mac, Counters>,
    /// Its standard output.
    pub stdout: String,
    said: String,
}

impl Books {
    /// Waits until the daemon has drained all that crossed `interfaces`, stops it, and reads what it left.
    ///
    /// Nothing may cross them any more. Where the accounts do not come to agree, the assertions will say so.
    pub fn close<'a>(
        daemon: Daemon<'_>,
        interfaces: impl IntoIterator<Item = &'a Interface>,
    ) -> Result<Self> {
        Self::close_all(daemon, interfaces)
    }
}

impl Books<Briefs> {
    /// [`close`](Books::close) for hundreds of thousands of records.
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
        // A drain that begins now sees it all, and the page tells of it a drain later at the latest.
        let drains = |page: &Metrics| page.sum("observer_drain_duration_seconds_count", &[("phase", "read")]);
        let enough = drains(&daemon.metrics()?) + 2;
        let settled = |page: &Metrics| {
            drains(page) >= enough
                && interfaces.iter().all(|interface| {
                    let Some(ledger) = page.ledger(interface) else { return false };
                    let recorded = page.recorded(interface);
                    Direction::ALL.into_iter().zip(ledger).all(|(direction, ledger)| {
                        let counted = counters[&interface.mac()].frames.get(direction).packets;
                        let counted = !comparable(interface, direction) || ledger.frames.packets >= counted;
                        counted && recorded.get(direction) + ledger.lost == ledger.seen + ledger.stopped
                    })
                })
        };
        // A page that never settles is looked at all the same.
        let _ = poll::until_true("the daemon has drained all", PATIENCE, || Ok(settled(&daemon.metrics()?)));
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

    /// The ledger of an interface; zeros where the page does not know it.
    pub fn ledger(&self, interface: &Interface) -> [Ledger; 2] {
        self.metrics.ledger(interface).unwrap_or_default()
    }

    /// What the host's policy dropped before it crossed an interface.
    pub fn stopped(&self, interface: &Interface) -> Crossed {
        let [ingress, egress] = self.ledger(interface).map(|ledger| ledger.stopped);
        Crossed { ingress, egress }
    }

    /// Asserts that the generators sent `sent` across `interface`, and that every account of the daemon says just
    /// that, with nothing lost.
    pub fn assert_exact(&self, interface: &Interface, sent: Crossed) {
        self.assert_conserved(interface, sent);
        let unseen = self.metrics.uncounted(interface, "unseen");
        assert_eq!(unseen, Crossed::default(), "told as unseen on {}", interface.id());
        assert_eq!(self.lost(interface), Tally::default(), "lost on {}", interface.id());
    }

    /// Asserts that what was sent across `interface` is in records or in the ledger of losses, to the last byte.
    pub fn assert_conserved(&self, interface: &Interface, sent: Crossed) {
        let (id, mac) = (interface.id(), interface.mac());
        assert!(self.metrics.ledger(interface).is_some(), "{id} is on no page:\n{}", self.metrics.text);
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
            assert_eq!(recorded, series.get(direction), "{id} {direction}: records, and series of flows");
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

    /// What the ledger says is lost, both ways together.
    pub fn lost(&self, interface: &Interface) -> Tally {
        self.ledger(interface).iter().map(|ledger| ledger.lost).sum()
    }
}

/// Whether the hook sees the frames that the interface counts: not where they are merged before it, or segmented behind
/// it. TCP makes super-packets for every interface since Linux 4.17, whatever that takes (kernel commit 0a6b2a1dc2a2).
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
