//! Draining the flow cache.
//!
//! The cache has two halves. A half has one row for each CPU, a row has sets, and a set has slots
//! for flows. A bitmap marks the sets that hold flows. A flow whose set is full goes to a ring
//! buffer, the spill ring.
//!
//! A drain switches the active half and waits for a grace period, after which no eBPF program
//! accesses the old half. Then it reads and clears the marked sets of the old half.

use std::{
    fmt,
    mem::{self, Discriminant},
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use observer_ebpf::abi::{Control, FlowKey, FlowSet, FlowSlot, Ledger, names};

use super::{
    KernelError, Programs, Sizes,
    drops::Drops,
    entry::{delta_of, flow_of},
    grace::Grace,
    ledger::Ledgers,
    mapping::Mapping,
    syscall::{AfterRead, Elements, map_fd},
    ticks::{TickReader, Ticks},
};
use crate::{
    flow::{Delta, InterfaceNumber},
    log::Logged,
};

/// Time at which an entry was created, relative to the latest switch of halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the switch.
    Before,
    /// After the switch. Only an entry of the spill ring can be.
    After,
}

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
    control: Mapping<Control>,
    flows: Mapping<FlowSet>,
    used: Mapping<u64>,
    ledgers: Arc<Ledgers>,
    ring: RingBuf<MapData>,
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
        let rows = sizes.rows() as usize;
        let ticks = clock.as_ref().map_or(Ok(Ticks::Replay), TickReader::read)?;
        let ring = aya::maps::Map::RingBuf(programs.take_map(names::SPILL)?);
        let control = Mapping::<Control>::of(programs, names::CONTROL, 1)?;
        // All sets, until the first drain has counted the flows.
        control.write(0, Control { sets: sizes.sets, share: sizes.share(1), ..control.read(0) });
        Ok(Self {
            sizes,
            control,
            flows: Mapping::of(programs, names::FLOWS, rows * sizes.sets as usize)?,
            used: Mapping::of(programs, names::USED, rows * sizes.sets as usize / 64)?,
            ledgers: Arc::new(Ledgers::new(
                Mapping::of(
                    programs,
                    names::LEDGER,
                    usize::from(sizes.interfaces) * 2 * sizes.cpus as usize,
                )?,
                sizes.cpus as usize,
            )),
            ring: ring.try_into().map_err(aya::EbpfError::from)?,
            drops: None,
            failing: Logged::default(),
            owners: programs.take_map(names::OWNERS)?,
            owner_elements: Elements::new(),
            grace,
            clock,
            ticks,
            spilled: 0,
            next_sets: sizes.sets,
        })
    }

    /// Sets each interface's share of the cache: an equal part for this many interfaces. When the
    /// spill ring is full, interfaces that created more entries than their share lose entries
    /// before others do.
    pub fn share_among(&mut self, interfaces: usize) {
        let share = self.sizes.share(interfaces as u32);
        self.control.write(0, Control { share, ..self.control.read(0) });
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

    /// Starts draining drops too.
    pub fn see_drops(&mut self, drops: Drops) {
        self.drops = Some(drops);
    }

    /// Drops, if they are observed.
    pub fn drops(&mut self) -> Option<&mut Drops> {
        self.drops.as_mut()
    }

    /// Switches halves, waits for a grace period, and passes every entry of the old half and of the
    /// spill ring to `take`. Flows of dropped packets come last, so that a packet is counted in its
    /// flow before it is moved to a rejected one.
    ///
    /// When this returns `Ok`, everything that was counted before the call has been passed to `take`,
    /// except drops that could not be read. After an error the old half is read by the drain after
    /// the next.
    pub fn drain(&mut self, mut take: impl FnMut(Side, Delta)) -> Result<DrainReport, KernelError> {
        let control = self.control.read(0);
        let generation = control.generation;
        let (next, sets) = (generation.wrapping_add(1), self.next_sets);
        self.control.write(0, Control { generation: next, sets, ..control });
        let start = Instant::now();
        self.grace.wait()?;
        let grace = start.elapsed();

        let start = Instant::now();
        if let Some(clock) = &self.clock {
            self.ticks = clock.read()?;
        }
        let ticks = self.ticks;
        let half = (generation & 1) as usize;
        let entries = self.read_half(half, ticks, |delta| take(Side::Before, delta));
        let spilled = self.read_ring(&mut take);
        self.next_sets = sets_for(entries + self.spilled, sets, self.sizes.sets);
        self.spilled = 0;
        let dropped = self.drops.as_mut().map_or(0, |drops| {
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
    /// drains, so that the ring does not fill up.
    pub fn read_ring(&mut self, mut take: impl FnMut(Side, Delta)) -> u64 {
        let generation = self.control.read(0).generation;
        let mut count = 0;
        while let Some(item) = self.ring.next() {
            let Some(bytes) = item.first_chunk::<{ size_of::<FlowSlot>() }>() else { continue };
            // SAFETY: as many bytes as the type has, and every bit pattern of it is valid.
            let slot = unsafe { bytes.as_ptr().cast::<FlowSlot>().read_unaligned() };
            let side = if slot.key.age(generation) == 0 { Side::After } else { Side::Before };
            take(side, delta_of(self.ticks, &slot));
            count += 1;
        }
        self.spilled += count;
        count
    }

    /// Ledgers of all interfaces, which other threads may read too.
    pub fn ledgers(&self) -> Arc<Ledgers> {
        Arc::clone(&self.ledgers)
    }

    /// Ledger of an interface by direction, summed over all CPUs.
    pub fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.ledgers.of(interface)
    }

    /// Passes the entries of a half to `take`, clears them, and returns their number. To be called
    /// after a grace period: until then programs may access the half.
    fn read_half(&self, half: usize, ticks: Ticks, mut take: impl FnMut(Delta)) -> u64 {
        let (sets, words) = (self.sizes.sets as usize, self.sizes.sets as usize / 64);
        let cpus = self.sizes.cpus as usize;
        debug_assert_eq!(self.used.len(), 2 * cpus * words);
        let mut count = 0;
        for row in half * cpus..(half + 1) * cpus {
            for word in row * words..(row + 1) * words {
                let mut bits = self.used.read(word);
                if bits == 0 {
                    continue;
                }
                self.used.write(word, 0);
                while bits != 0 {
                    let set =
                        row * sets + (word - row * words) * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    // SAFETY: a grace period has passed since the switch, so no program uses this
                    // half.
                    for slot in unsafe { self.flows.quiet(set) } {
                        if slot.packets_and_flags != 0 {
                            take(delta_of(ticks, slot));
                            count += 1;
                            slot.packets_and_flags = 0;
                            // A key with interface number 0 matches no packet.
                            slot.key.interface = 0;
                        }
                    }
                }
            }
        }
        count
    }
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
