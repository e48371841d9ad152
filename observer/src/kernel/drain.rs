//! Flip, grace period, read and clear.
//!
//! The flow cache has two halves. The daemon flips the active one, waits until no program can still be running on
//! the old one, and then reads and clears it at leisure. Only the sets that were used are touched.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use observer_ebpf::abi::{Control, FlowKey, FlowSet, FlowSlot, Ledger, names};

use super::{
    KernelError, Programs, Sizes,
    drops::Drops,
    grace::Grace,
    ledger::Ledgers,
    mapping::Mapping,
    object::map_fd,
    syscall::{After, Elements},
    ticks::{TickReader, Ticks},
};
use crate::flow::{Counters, Delta, Icmp, InterfaceNumber};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// On which side of the newest flip an entry was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before it.
    Before,
    /// After it: an entry that was made and spilled while the drain went on.
    After,
}

/// How long a drain took, and what it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Waiting for the grace period.
    pub grace: Duration,
    /// Reading and clearing.
    pub read: Duration,
    /// Entries read from the cache.
    pub entries: u64,
    /// Entries read from the spill ring.
    pub spilled: u64,
    /// Flows of dropped packets.
    pub dropped: u64,
}

/// The daemon's side of the shared maps.
pub struct Drain {
    sizes: Sizes,
    control: Mapping<Control>,
    flows: Mapping<FlowSet>,
    used: Mapping<u64>,
    ledgers: Arc<Ledgers>,
    ring: RingBuf<MapData>,
    drops: Option<Drops>,
    owners: MapData,
    owner_elements: Elements<FlowKey, u64>,
    grace: Grace,
    /// `None` in a replay.
    clock: Option<TickReader>,
    /// What the clocks said at the last drain: as good for what came since.
    ticks: Ticks,
    /// Entries read from the ring since the last flip.
    spilled: u64,
    /// How many sets of a row are in use from the next flip on.
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
    /// Maps the shared maps, taking them out of one load of the object.
    pub fn new(programs: &mut Programs, sizes: Sizes, grace: Grace) -> Result<Self, KernelError> {
        let clock = TickReader::new(programs)?;
        Self::with(programs, sizes, grace, Some(clock))
    }

    /// The same for programs that were loaded with [`Clock::Replay`](observer_ebpf::abi::Clock::Replay): times are
    /// milliseconds of the capture modulo 2^32, which the caller completes.
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
        // All of them, until it is seen how many flows there are.
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
            owners: programs.take_map(names::OWNERS)?,
            owner_elements: Elements::new(),
            grace,
            clock,
            ticks,
            spilled: 0,
            next_sets: sizes.sets,
        })
    }

    /// Divides the cache among so many interfaces: one that makes more entries than its share is the first to lose
    /// some when the spill ring fills up.
    pub fn share_among(&mut self, interfaces: usize) {
        let share = self.sizes.share(interfaces as u32);
        self.control.write(0, Control { share, ..self.control.read(0) });
    }

    /// Whose the flows are that interfaces with several tasks have begun to send since the last call: each, as packets
    /// from the task, with the id of a control group of version 2. A flow that goes on is told again after each drain.
    pub fn take_owners(
        &mut self,
        mut take: impl FnMut(crate::flow::FlowKey, u64),
    ) -> Result<(), KernelError> {
        // A bucket is read and cleared, and its elements are replaced, under the same lock.
        self.owner_elements
            .read(map_fd(&self.owners), After::Remove, |key, owner| take(flow_of(key), *owner))
            .map(drop)
    }

    /// From now on flows of dropped packets are drained too.
    pub fn see_drops(&mut self, drops: Drops) {
        self.drops = Some(drops);
    }

    /// What was dropped, if that is seen.
    pub fn drops(&mut self) -> Option<&mut Drops> {
        self.drops.as_mut()
    }

    /// Flips, waits, and hands every entry of the old half and of the spill ring to `take`; then what was dropped, so
    /// that the flow in which a packet was counted comes before the one in which it was dropped.
    ///
    /// When this returns, everything that was counted before the call has been handed over.
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
            read.unwrap_or_else(|error| {
                tracing::warn!(%error, "drops could not be read; trying again");
                0
            })
        });
        Ok(DrainReport { grace, read: start.elapsed(), entries, spilled, dropped })
    }

    /// Hands what lies in the spill ring to `take`, and returns how many entries that were.
    pub fn read_ring(&mut self, mut take: impl FnMut(Side, Delta)) -> u64 {
        let generation = self.control.read(0).generation;
        let mut count = 0;
        while let Some(item) = self.ring.next() {
            let Some(bytes) = item.first_chunk::<{ size_of::<FlowSlot>() }>() else { continue };
            // SAFETY: as many bytes as the type has, and every bit pattern of it is valid.
            let slot = unsafe { bytes.as_ptr().cast::<FlowSlot>().read_unaligned() };
            let side = if slot.key.age(generation) == 0 { Side::After } else { Side::Before };
            take(side, self.ticks.delta(&slot));
            count += 1;
        }
        self.spilled += count;
        count
    }

    /// The ledgers, which others may read too.
    pub fn ledgers(&self) -> Arc<Ledgers> {
        Arc::clone(&self.ledgers)
    }

    /// The sums over all CPUs of what crossed an interface, by direction.
    pub fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.ledgers.of(interface)
    }

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
                    let set = row * sets + (word - row * words) * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    // SAFETY: a grace period has passed since the flip, so no program is on this half.
                    for slot in unsafe { self.flows.quiet(set) } {
                        if slot.packets_and_flags != 0 {
                            take(ticks.delta(slot));
                            count += 1;
                            slot.packets_and_flags = 0;
                            // A key without interface matches no packet.
                            slot.key.interface = 0;
                        }
                    }
                }
            }
        }
        count
    }
}

/// How many sets of a row are to be in use, where `entries` were made since the last flip in rows of `sets`.
///
/// A quarter of a flow per set: of five in one set there is one in 150,000. More at once, for a burst costs an event for
/// each flow that has no room; fewer by halves, for bursts come again.
fn sets_for(entries: u64, sets: u32, most: u32) -> u32 {
    const SETS_PER_FLOW: u64 = 4;
    const LEAST: u32 = 1024;
    let wanted = (entries * SETS_PER_FLOW).min(u64::from(most)) as u32;
    wanted.max(sets / 2).max(LEAST).min(most)
}

const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// The flow that an entry of the cache is of.
fn flow_of(key: &FlowKey) -> crate::flow::FlowKey {
    // Type and code travel in the place of the first port. VPC Flow Logs keep them out of the 5-tuple.
    let ports = if is_icmp(key.protocol) {
        (0, 0)
    } else {
        (u16::from_be(key.source_port_be), u16::from_be(key.destination_port_be))
    };
    crate::flow::FlowKey::new(
        InterfaceNumber::new(key.interface),
        key.direction(),
        key.family(),
        key.protocol,
        (key.source, key.destination),
        ports,
    )
}

impl Ticks {
    pub(super) fn delta(self, slot: &FlowSlot) -> Delta {
        let FlowKey { source_port_be, destination_port_be, protocol, .. } = slot.key;
        let mut icmp = Icmp::None;
        if is_icmp(protocol) && destination_port_be != 0 {
            let [kind, code] = source_port_be.to_ne_bytes();
            icmp = Icmp::One { kind, code };
        }
        Delta {
            key: flow_of(&slot.key),
            counters: Counters {
                packets: slot.packets(),
                bytes: slot.bytes,
                first_ms: self.unix_ms(slot.first),
                last_ms: self.unix_ms(slot.last),
                tcp_flags_all: slot.tcp_flags_all(),
                tcp_flags_aws: slot.tcp_flags_aws(),
                icmp,
                undelivered: 0,
            },
        }
    }
}
