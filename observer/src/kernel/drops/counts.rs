//! Reading the maps of the drops program.

use std::{
    collections::BTreeMap,
    fmt,
    mem::{self, offset_of},
    os::fd::AsFd,
    sync::Arc,
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::ProgramFd,
};
use observer_ebpf::abi::{
    Direction, DropCount, DropCountKey, DropKey, DropSlot, DropState, FlowSlot, names,
};

use super::{detail::DropDetail, reasons::ReasonTable};
use crate::{
    flow::{Action, Delta, FlowKey, InterfaceNumber},
    kernel::{
        KernelError,
        entry::delta_of,
        mapping::Mapping,
        syscall::{AfterRead, Elements, delete, map_fd, misses},
        ticks::Ticks,
    },
};

/// Counts of the program that belong to no single interface. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropTotals {
    /// Dropped packets not counted, because the map of counts was full.
    pub uncounted: u64,
    /// Packets that policy dropped after the hook and that did not become `REJECT`, because the map
    /// of flows was full.
    pub table_full: u64,
    /// Packets that policy dropped after the hook and that did not become `REJECT`, because their
    /// headers were unreadable.
    pub unread: u64,
    /// Undelivered packets not counted, because the map of undelivered flows was full.
    pub undelivered_full: u64,
    /// Dropped buffers for which the program did not run, because it was already running on the
    /// same CPU.
    pub missed: u64,
}

/// Drops of an interface in one direction for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Direction of the packets, derived from the buffer.
    pub direction: Direction,
    /// Kernel's name of the reason, without prefix; `unknown` if the kernel gives none.
    pub reason: Arc<str>,
    /// Drops since the interface was put on the watchlist.
    pub count: DropCount,
}

/// Reader of the drops program's maps. Dropping it detaches the program.
pub struct Drops {
    halves: [MapData; 2],
    undelivered_halves: [MapData; 2],
    /// Undelivered packets read from the maps, until the caller takes them.
    undelivered: Vec<(FlowKey, u64)>,
    count_map: MapData,
    /// Words of a [`DropState`]. The program and the daemon write some of them.
    state: Mapping<u64>,
    program: ProgramFd,
    reasons: ReasonTable,
    detail: DropDetail,
    flows: Elements<DropKey, DropSlot>,
    elements: Elements<DropCountKey, DropCount>,
    counts: BTreeMap<DropCountKey, DropCount>,
    /// Owns the link of the program.
    _object: Ebpf,
}

impl fmt::Debug for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drops").field("detail", &self.detail).finish_non_exhaustive()
    }
}

/// Index of the word at an offset.
const fn word(offset: usize) -> usize {
    offset / size_of::<u64>()
}

impl Drops {
    /// Takes the maps out of the object of the attached program.
    pub(super) fn new(
        mut object: Ebpf,
        program: ProgramFd,
        reasons: ReasonTable,
        detail: DropDetail,
    ) -> Result<Self, KernelError> {
        let mut take = |name| take_map(&mut object, name);
        let state = take(names::DROP_STATE)?;
        Ok(Self {
            halves: [take(names::DROPS[0])?, take(names::DROPS[1])?],
            undelivered_halves: [take(names::UNDELIVERED[0])?, take(names::UNDELIVERED[1])?],
            undelivered: Vec::new(),
            count_map: take(names::DROP_COUNTS)?,
            state: Mapping::new(
                map_fd(&state),
                size_of::<DropState>() / size_of::<u64>(),
                names::DROP_STATE,
            )?,
            program,
            reasons,
            detail,
            flows: Elements::new(),
            elements: Elements::new(),
            counts: BTreeMap::new(),
            _object: object,
        })
    }

    /// Detail in which this kernel reports drops.
    pub const fn detail(&self) -> DropDetail {
        self.detail
    }

    /// Passes every rejected flow in the maps of an earlier run to `take`, and clears them.
    pub(in crate::kernel) fn drain_earlier(
        &mut self,
        maps: &[MapData; 2],
        ticks: Ticks,
        mut take: impl FnMut(Delta),
    ) {
        let Self { flows, reasons, .. } = self;
        for map in maps {
            let read = flows.read(map_fd(map), AfterRead::Remove, |key, slot| {
                if let Some(reason) = reasons.policy(key.reason) {
                    let mut delta = delta(ticks, key, slot);
                    delta.key = delta.key.with_action(Action::Reject(reason));
                    take(delta);
                }
            });
            if let Err(error) = read {
                tracing::warn!(%error, "drops of an earlier run cannot be read: they stay accepted");
            }
        }
    }

    /// Passes every rejected flow of a half to `take`, and clears the half. No program may write it
    /// any more. Undelivered packets are kept for [`take_undelivered`](Self::take_undelivered).
    /// Returns the number of flows read.
    pub(in crate::kernel) fn drain(
        &mut self,
        half: usize,
        ticks: Ticks,
        mut take: impl FnMut(Delta),
    ) -> Result<u64, KernelError> {
        let used = word(offset_of!(DropState, used)) + half;
        if self.state.read(used) == 0 {
            return Ok(0);
        }
        self.state.write(used, 0);
        let Self { halves, undelivered_halves, undelivered, flows, reasons, state, .. } = self;
        let read = flows.read(map_fd(&halves[half]), AfterRead::Remove, |key, slot| {
            if let Some(reason) = reasons.policy(key.reason) {
                let mut delta = delta(ticks, key, slot);
                delta.key = delta.key.with_action(Action::Reject(reason));
                take(delta);
            }
        });
        let read = read.and_then(|rejected| {
            let rest =
                flows.read(map_fd(&undelivered_halves[half]), AfterRead::Remove, |key, slot| {
                    undelivered.push((delta(ticks, key, slot).key, slot.packets));
                });
            rest.map(|rest| rejected + rest)
        });
        // After an error, the rest is read when this half is drained again.
        read.inspect_err(|_| state.write(used, 1))
    }

    /// Takes the undelivered incoming packets per flow, as read since the last call.
    pub fn take_undelivered(&mut self) -> Vec<(FlowKey, u64)> {
        mem::take(&mut self.undelivered)
    }

    /// Updates the counts if any have changed.
    pub(in crate::kernel) fn read_counts(&mut self) -> Result<(), KernelError> {
        const COUNTED: usize = word(offset_of!(DropState, counted));
        if self.state.read(COUNTED) == 0 {
            return Ok(());
        }
        // Cleared before the read, so that a count added meanwhile is read twice rather than never.
        self.state.write(COUNTED, 0);
        let Self { elements, count_map, counts, state, .. } = self;
        let read = elements.read(map_fd(count_map), AfterRead::Keep, |key, count| {
            counts.insert(*key, *count);
        });
        read.map(drop).inspect_err(|_| state.write(COUNTED, 1))
    }

    /// Drops of an interface since it was put on the watchlist.
    pub fn of(&self, interface: InterfaceNumber) -> impl Iterator<Item = Dropped> {
        self.of_number(interface.get())
    }

    /// Drops in namespaces with several observed interfaces, of packets that had no interface yet.
    pub fn of_none(&self) -> impl Iterator<Item = Dropped> {
        self.of_number(0)
    }

    /// Drops with an interface number; 0 for those without interface.
    fn of_number(&self, number: u16) -> impl Iterator<Item = Dropped> {
        let first = DropCountKey { interface: number, ..DropCountKey::default() };
        let counts = self.counts.range(first..).take_while(move |(key, _)| key.interface == number);
        counts.map(|(key, count)| Dropped {
            direction: if key.direction == 0 { Direction::Ingress } else { Direction::Egress },
            reason: self.reasons.name(key.reason),
            count: *count,
        })
    }

    /// Deletes the counts of an interface that is no longer watched, because its number will be
    /// reused.
    pub fn forget(&mut self, interface: InterfaceNumber) -> Result<(), KernelError> {
        let number = interface.get();
        let keys: Vec<_> =
            self.counts.keys().filter(|key| key.interface == number).copied().collect();
        for key in keys {
            self.counts.remove(&key);
            delete(map_fd(&self.count_map), &key)?;
        }
        Ok(())
    }

    /// Counts that belong to no single interface.
    pub fn totals(&self) -> DropTotals {
        DropTotals {
            uncounted: self.state.read(word(offset_of!(DropState, uncounted))),
            table_full: self.state.read(word(offset_of!(DropState, table_full))),
            unread: self.state.read(word(offset_of!(DropState, unread))),
            undelivered_full: self.state.read(word(offset_of!(DropState, undelivered_full))),
            // An error is reported as 0: counters only grow, and 0 does not lower them.
            missed: misses(self.program.as_fd()).unwrap_or(0),
        }
    }
}

/// A map element as a delta.
fn delta(ticks: Ticks, key: &DropKey, slot: &DropSlot) -> Delta {
    // CPUs write the last time without synchronization, so it may be earlier than the first.
    let (early, late) = if slot.last.wrapping_sub(slot.first) as i32 >= 0 {
        (slot.first, slot.last)
    } else {
        (slot.last, slot.first)
    };
    delta_of(
        ticks,
        &FlowSlot {
            key: key.flow,
            bytes: slot.bytes,
            packets_and_flags: slot.packets | FlowSlot::flags(key.tcp_flags as u8),
            first: early,
            last: late,
        },
    )
}

/// Takes an array or hash map out of the object.
pub(super) fn take_map(object: &mut Ebpf, name: &'static str) -> Result<MapData, KernelError> {
    match object.take_map(name) {
        Some(Map::Array(data) | Map::HashMap(data)) => Ok(data),
        _ => Err(KernelError::Missing { kind: "map", name }),
    }
}
