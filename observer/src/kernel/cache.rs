//! The flow cache and the spill ring, as the daemon reads them.

use aya::maps::MapData;
use observer_ebpf::abi::{Control, FlowSet, FlowSlot};

use super::{
    KernelError, entry::delta_of, mapping::Mapping, ring::Ring, syscall::map_fd, ticks::Ticks,
};
use crate::flow::Delta;

/// Time at which an entry was created, relative to the latest switch of halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the switch.
    Before,
    /// After the switch. Only an entry of the spill ring can be.
    After,
}

/// Position up to which a reader has read the flow cache and the spill ring of one set of maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Number of halves that were read since the maps were created.
    pub halves: u64,
    /// Position in the spill ring.
    pub ring: u64,
}

/// Maps of a flow cache.
#[derive(Debug)]
pub(super) struct CacheMaps {
    pub(super) control: MapData,
    pub(super) flows: MapData,
    pub(super) used: MapData,
    pub(super) spill: MapData,
}

/// The flow cache and the spill ring.
///
/// Reading and clearing are two steps. Between them the caller writes what was read to the journal:
/// if the daemon is killed before that, the entries are still in the kernel.
#[derive(Debug)]
pub(super) struct Cache {
    control: Mapping<Control>,
    flows: Mapping<FlowSet>,
    used: Mapping<u64>,
    ring: Ring,
    cpus: usize,
    sets: usize,
    /// The half that was read and is not cleared.
    dirty: Option<usize>,
    /// Generation after the switch that preceded the last reading of a half.
    halves: u64,
}

impl Cache {
    /// Maps a cache for this many CPUs with this many sets for each CPU and half.
    pub(super) fn new(
        maps: &CacheMaps,
        (cpus, sets): (u32, u32),
        ring_bytes: u32,
    ) -> Result<Self, KernelError> {
        let (cpus, sets) = (cpus as usize, sets as usize);
        Ok(Self {
            control: Mapping::new(map_fd(&maps.control), 1, "CONTROL")?,
            flows: Mapping::new(map_fd(&maps.flows), 2 * cpus * sets, "FLOWS")?,
            used: Mapping::new(map_fd(&maps.used), 2 * cpus * sets / 64, "USED")?,
            ring: Ring::new(map_fd(&maps.spill), ring_bytes)?,
            cpus,
            sets,
            dirty: None,
            halves: 0,
        })
    }

    pub(super) fn control(&self) -> Control {
        self.control.read(0)
    }

    pub(super) fn set_control(&self, control: Control) {
        self.control.write(0, control);
    }

    /// Switches the active half, and returns the number of the half that programs used before. They
    /// may still use it until a grace period has passed.
    pub(super) fn switch(&mut self, sets: Option<u32>) -> usize {
        let control = self.control();
        let generation = control.generation.wrapping_add(1);
        self.set_control(Control { generation, sets: sets.unwrap_or(control.sets), ..control });
        (control.generation & 1) as usize
    }

    /// Passes the entries of a half to `take`, and returns their number. To be called after a grace
    /// period: until then programs may access the half.
    pub(super) fn read_half(
        &mut self,
        half: usize,
        ticks: Ticks,
        mut take: impl FnMut(Delta),
    ) -> u64 {
        let mut count = 0;
        self.each_set(half, |set| {
            for slot in set.iter().filter(|slot| slot.packets_and_flags != 0) {
                take(delta_of(ticks, slot));
                count += 1;
            }
        });
        self.dirty = Some(half);
        self.halves = self.control().generation;
        count
    }

    /// Passes the entries of the spill ring to `take`, and returns their number.
    pub(super) fn read_ring(&mut self, ticks: Ticks, mut take: impl FnMut(Side, Delta)) -> u64 {
        let generation = self.control().generation;
        let mut count = 0;
        self.ring.read(|bytes| {
            let Some(bytes) = bytes.first_chunk::<{ size_of::<FlowSlot>() }>() else { return };
            // SAFETY: as many bytes as the type has, and every bit pattern of it is valid.
            let slot = unsafe { bytes.as_ptr().cast::<FlowSlot>().read_unaligned() };
            let side = if slot.key.age(generation) == 0 { Side::After } else { Side::Before };
            take(side, delta_of(ticks, &slot));
            count += 1;
        });
        count
    }

    /// Position after everything that was read.
    pub(super) fn position(&self) -> Position {
        Position { halves: self.halves, ring: self.ring.position_read() }
    }

    /// Clears everything that was read.
    pub(super) fn clear(&mut self) {
        self.ring.release();
        if let Some(half) = self.dirty.take() {
            self.clear_half(half);
        }
    }

    /// Clears the entries before this position, which an earlier reader has read. Returns the half
    /// that it has switched off and not read, if there is one. Call before the first
    /// [`switch`](Self::switch), and while no other reader exists.
    pub(super) fn skip_to(&mut self, position: Position) -> Option<usize> {
        self.ring.skip_to(position.ring);
        let generation = self.control().generation;
        let half = (generation.wrapping_sub(1) & 1) as usize;
        if generation != position.halves {
            return Some(half);
        }
        // The reader may have been interrupted while it cleared the half.
        self.clear_half(half);
        None
    }

    fn clear_half(&mut self, half: usize) {
        self.each_set(half, |set| {
            for slot in set {
                slot.packets_and_flags = 0;
                // A key with interface number 0 matches no packet.
                slot.key.interface = 0;
            }
        });
        let words = self.cpus * self.sets / 64;
        for word in half * words..(half + 1) * words {
            if self.used.read(word) != 0 {
                self.used.write(word, 0);
            }
        }
    }

    /// Passes each marked set of a half that no program uses.
    fn each_set(&self, half: usize, mut take: impl FnMut(&mut FlowSet)) {
        let words = self.cpus * self.sets / 64;
        for word in half * words..(half + 1) * words {
            let mut bits = self.used.read(word);
            while bits != 0 {
                let set = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                // SAFETY: the caller has waited for a grace period since the switch, so no program
                // uses this half.
                take(unsafe { self.flows.quiet(set) });
            }
        }
    }
}
