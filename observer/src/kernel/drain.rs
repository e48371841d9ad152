//! Draining the flow cache.
//!
//! The cache has two halves. A half has one row for each CPU, a row has sets, and a set has slots
//! for flows. A bitmap marks the sets that hold flows. A flow whose set is full goes to a ring
//! buffer, the spill ring.
//!
//! A drain switches the active half and waits for a grace period, after which no eBPF program
//! accesses the old half. Then it reads the marked sets of the old half. They are cleared once the
//! caller has them in its journal.

use std::{
    collections::BTreeMap,
    fmt,
    mem::{self, Discriminant},
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::MapData;
use observer_ebpf::abi::{Control, FlowKey, Ledger, names};

use super::{
    KernelError, Programs, Sizes,
    cache::{Cache, CacheMaps, Position},
    drops::Drops,
    earlier::Earlier,
    entry::flow_of,
    grace::Grace,
    ledger::Ledgers,
    mapping::Mapping,
    sizes::MAX_INTERFACES,
    syscall::{AfterRead, Elements, map_fd},
    ticks::{TickReader, Ticks},
};
use crate::{
    flow::{Delta, InterfaceNumber, Traffic},
    log::Logged,
};

pub use super::cache::Side;

/// Durations and counts of one drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Wait for the grace period.
    pub grace: Duration,
    /// Time for reading and clearing.
    pub read: Duration,
    /// Entries read from the cache.
    pub entries: u64,
    /// Entries read from the spill ring.
    pub spilled: u64,
    /// Flows with dropped packets; 0 if they could not be read.
    pub dropped: u64,
}

/// The daemon's end of the maps that it shares with the eBPF programs.
pub struct Drain {
    sizes: Sizes,
    cache: Cache,
    ledgers: Arc<Ledgers>,
    drops: Option<Drops>,
    /// Kind of the last error of reading drops. A repeated kind is not logged again.
    failing: Logged<Discriminant<KernelError>>,
    /// Control groups that sent the flows of shared interfaces.
    owners: MapData,
    owner_elements: Elements<FlowKey, u64>,
    grace: Grace,
    /// `None` in a replay, where times come from the capture.
    clock: Option<TickReader>,
    /// Reading of the clocks at the last drain. It also converts the times of entries that are read
    /// from the ring before the next one.
    ticks: Ticks,
    /// Entries read from the spill ring since the last drain.
    spilled: u64,
    /// Number of sets of each row that programs use after the next switch.
    next_sets: u32,
    /// Maps of earlier runs whose programs may still count.
    earlier: Vec<Earlier>,
    /// Ledgers of earlier runs that have ended, by interface number.
    carried: Vec<[Ledger; 2]>,
    /// Ledgers of interfaces at which the reading of earlier runs begins.
    bases: BTreeMap<InterfaceNumber, [Ledger; 2]>,
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("sizes", &self.sizes)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl Drain {
    /// Takes the shared maps from a load of the programs, and maps them into memory.
    pub fn new(programs: &mut Programs, sizes: Sizes, grace: Grace) -> Result<Self, KernelError> {
        let clock = TickReader::new(programs)?;
        Self::with(programs, sizes, grace, Some(clock))
    }

    /// Creates a reader for programs loaded with
    /// [`Clock::Replay`](observer_ebpf::abi::Clock::Replay). Times are the low 32 bits of the
    /// capture's milliseconds; the caller adds the high bits.
    pub(super) fn of_replay(programs: &mut Programs, sizes: Sizes) -> Result<Self, KernelError> {
        Self::with(programs, sizes, Grace::Called, None)
    }

    fn with(
        programs: &mut Programs,
        sizes: Sizes,
        grace: Grace,
        clock: Option<TickReader>,
    ) -> Result<Self, KernelError> {
        let ticks = clock.as_ref().map_or(Ok(Ticks::Replay), TickReader::read)?;
        let maps = CacheMaps {
            control: programs.take_map(names::CONTROL)?,
            flows: programs.take_map(names::FLOWS)?,
            used: programs.take_map(names::USED)?,
            spill: programs.take_map(names::SPILL)?,
        };
        let cache = Cache::new(&maps, (sizes.cpus, sizes.sets), sizes.ring_bytes)?;
        // All sets, until the first drain has counted the flows.
        let control = cache.control();
        cache.set_control(Control { sets: sizes.sets, share: sizes.share(1), ..control });
        Ok(Self {
            sizes,
            cache,
            ledgers: Arc::new(Ledgers::new(
                Mapping::of(
                    programs,
                    names::LEDGER,
                    usize::from(sizes.interfaces) * 2 * sizes.cpus as usize,
                )?,
                sizes.cpus as usize,
            )),
            drops: None,
            failing: Logged::default(),
            owners: programs.take_map(names::OWNERS)?,
            owner_elements: Elements::new(),
            grace,
            clock,
            ticks,
            spilled: 0,
            next_sets: sizes.sets,
            earlier: Vec::new(),
            bases: BTreeMap::new(),
            carried: vec![[Ledger::default(); 2]; usize::from(MAX_INTERFACES) + 1],
        })
    }

    /// Sets each interface's share of the cache: an equal part for this many interfaces. When the
    /// spill ring is full, interfaces that created more entries than their share lose entries
    /// before others do.
    pub fn share_among(&mut self, interfaces: usize) {
        let share = self.sizes.share(interfaces as u32);
        self.cache.set_control(Control { share, ..self.cache.control() });
    }

    /// Passes each flow that was sent through a shared interface since the last call to `take`,
    /// with the ID of the sender's control group (version 2), and removes it. The direction of the
    /// keys is egress. A flow that continues is reported again after each drain, which creates its
    /// entry anew.
    pub fn take_owners(
        &mut self,
        mut take: impl FnMut(crate::flow::FlowKey, u64),
    ) -> Result<(), KernelError> {
        // The kernel reads and clears a bucket under the lock that programs take to update it.
        self.owner_elements
            .read(map_fd(&self.owners), AfterRead::Remove, |key, owner| take(flow_of(key), *owner))
            .map(|_| ())
    }

    /// Starts reading the maps of earlier runs too. `bases` are the ledgers of each interface at
    /// which the reading begins.
    pub fn read_earlier(
        &mut self,
        earlier: Vec<Earlier>,
        bases: BTreeMap<InterfaceNumber, [Ledger; 2]>,
    ) {
        (self.earlier, self.bases) = (earlier, bases);
    }

    /// IDs of the earlier runs whose maps are read, with the position after everything that was
    /// read.
    pub fn earlier(&self) -> impl Iterator<Item = (u64, Position)> {
        self.earlier.iter().map(|run| (run.id(), run.position()))
    }

    /// Returns the maps of earlier runs, after everything in them was read and their programs are
    /// gone. Their ledgers stay part of the sums. [`Ended::remove`] removes them.
    pub fn end_earlier(&mut self) -> Ended {
        let runs = mem::take(&mut self.earlier);
        let missing = mem::take(&mut self.bases)
            .into_iter()
            .map(|(number, base)| (number, missing(&runs, number, &base)))
            .filter(|(_, missing)| *missing != [Traffic::NONE; 2])
            .collect();
        for (number, carried) in (0..=MAX_INTERFACES).zip(&mut self.carried) {
            for run in &runs {
                let ledger = run.ledger(InterfaceNumber::new(number));
                *carried = [carried[0].plus(&ledger[0]), carried[1].plus(&ledger[1])];
            }
        }
        Ended { runs, missing }
    }

    /// Sum of an interface's ledgers in the runs that have ended, by direction.
    pub fn carried(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.carried.get(usize::from(interface.get())).copied().unwrap_or_default()
    }

    /// Starts draining drops too.
    pub fn see_drops(&mut self, drops: Drops) {
        self.drops = Some(drops);
    }

    /// Drops, if they are observed.
    pub fn drops(&mut self) -> Option<&mut Drops> {
        self.drops.as_mut()
    }

    /// Reads and clears everything that was counted: [`read`](Self::read), then
    /// [`clear`](Self::clear).
    pub fn drain(&mut self, take: impl FnMut(Side, Delta)) -> Result<DrainReport, KernelError> {
        let report = self.read(take)?;
        self.clear();
        Ok(report)
    }

    /// Switches halves, waits for a grace period, and passes every entry of the old half and of the
    /// spill ring to `take`. Flows of dropped packets come last, so that a packet is counted in its
    /// flow before it is moved to a rejected one.
    ///
    /// When this returns `Ok`, everything that was counted before the call has been passed to
    /// `take`, except drops that could not be read. After an error the old half is read by the drain
    /// after the next.
    pub fn read(&mut self, mut take: impl FnMut(Side, Delta)) -> Result<DrainReport, KernelError> {
        // The half that programs are about to use must be empty.
        self.cache.clear();
        let sets = self.next_sets;
        let half = self.cache.switch(Some(sets));
        self.earlier.iter_mut().for_each(Earlier::switch);
        let start = Instant::now();
        self.grace.wait()?;
        let grace = start.elapsed();

        let start = Instant::now();
        if let Some(clock) = &self.clock {
            self.ticks = clock.read()?;
        }
        let ticks = self.ticks;
        let entries = self.cache.read_half(half, ticks, |delta| take(Side::Before, delta));
        let spilled = self.read_ring(&mut take);
        for run in &mut self.earlier {
            run.read(ticks, &mut take);
        }
        self.next_sets = sets_for(entries + self.spilled, sets, self.sizes.sets);
        self.spilled = 0;
        let dropped = self.drops.as_mut().map_or(0, |drops| {
            for maps in self.earlier.iter_mut().filter_map(|run| run.drops.take()) {
                drops.drain_earlier(&maps, ticks, |delta| take(Side::Before, delta));
            }
            let read = drops.drain(half, ticks, |delta| take(Side::Before, delta));
            let read = read.and_then(|entries| drops.read_counts().map(|()| entries));
            match read {
                Ok(entries) => {
                    self.failing.clear();
                    entries
                }
                Err(error) => {
                    if self.failing.is_new(mem::discriminant(&error)) {
                        tracing::warn!(%error, "drops cannot be read; trying again at each drain");
                    }
                    0
                }
            }
        });
        Ok(DrainReport { grace, read: start.elapsed(), entries, spilled, dropped })
    }

    /// Passes the entries of the spill ring to `take`, and returns their number. Also called between
    /// drains, so that the ring does not fill up. Call [`clear`](Self::clear) afterwards.
    pub fn read_ring(&mut self, take: impl FnMut(Side, Delta)) -> u64 {
        let count = self.cache.read_ring(self.ticks, take);
        self.spilled += count;
        count
    }

    /// Clears everything that was read.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.earlier.iter_mut().for_each(Earlier::clear);
    }

    /// Position after everything that was read.
    pub fn position(&self) -> Position {
        self.cache.position()
    }

    /// Ledgers of all interfaces, which other threads may read too.
    pub fn ledgers(&self) -> Arc<Ledgers> {
        Arc::clone(&self.ledgers)
    }

    /// Ledger of an interface by direction, summed over all CPUs and over the earlier runs.
    pub fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        let own = self.ledgers.of(interface);
        let earlier = self.earlier.iter().map(|run| run.ledger(interface));
        earlier
            .chain([self.carried(interface)])
            .fold(own, |sum, one| [sum[0].plus(&one[0]), sum[1].plus(&one[1])])
    }
}

/// Maps of earlier runs that are no longer needed.
#[derive(Debug)]
pub struct Ended {
    runs: Vec<Earlier>,
    /// Traffic that the programs have seen and that was not in the maps, by interface and direction:
    /// the earlier run had cleared it, and its journal does not have it.
    pub missing: Vec<(InterfaceNumber, [Traffic; 2])>,
}

impl Ended {
    /// Removes the maps.
    pub fn remove(self) {
        self.runs.into_iter().for_each(Earlier::remove);
    }
}

fn missing(runs: &[Earlier], number: InterfaceNumber, base: &[Ledger; 2]) -> [Traffic; 2] {
    std::array::from_fn(|side| {
        let sum =
            runs.iter().fold(Ledger::default(), |sum, run| sum.plus(&run.ledger(number)[side]));
        let growth = sum.since(&base[side]);
        let lost: Traffic = growth.lost.into_iter().map(Traffic::from).sum();
        let read: Traffic = runs.iter().map(|run| run.was_read(number)[side]).sum();
        let seen = Traffic { packets: growth.packets, bytes: growth.bytes }
            + Traffic::from(growth.stopped);
        seen.saturating_sub(lost).saturating_sub(read)
    })
}

/// Number of sets per row to use next, given the `entries` since the last drain. `sets` is the
/// number in use now, which limits how fast it shrinks.
///
/// The aim is four sets for each flow, with which one set in 150,000 receives five flows, one more
/// than it has slots. The number grows at once, because each flow that finds its set full costs an
/// entry in the spill ring. It shrinks by at most half, because a burst may come again.
fn sets_for(entries: u64, sets: u32, most: u32) -> u32 {
    const SETS_PER_FLOW: u64 = 4;
    const LEAST: u32 = 1024;
    let wanted = (entries * SETS_PER_FLOW).min(u64::from(most)) as u32;
    wanted.max(sets / 2).max(LEAST).min(most)
}
