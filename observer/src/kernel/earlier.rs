//! Maps of an earlier run, whose programs may still count.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use aya::maps::MapData;
use observer_ebpf::abi::{FlowSet, Ledger, names};

use super::{
    KernelError, Position,
    bpffs::{MAPS, PinDirectory, remove_directory},
    cache::{Cache, CacheMaps, Side},
    ledger::Ledgers,
    mapping::Mapping,
    preflight,
    syscall::map_fd,
    ticks::Ticks,
};
use crate::flow::{Counters, Delta, InterfaceNumber, Traffic};

/// Maps of an earlier run.
///
/// The programs of that run count into them until those of this run have replaced them. Interfaces
/// keep their numbers, so that counts of both runs belong to one account.
pub struct Earlier {
    id: u64,
    directory: PathBuf,
    cache: Cache,
    ledgers: Ledgers,
    /// Flows that policy dropped, by half; `None` once they are read. The program that counts them
    /// ends with the daemon.
    pub(super) drops: Option<[MapData; 2]>,
    /// The half that the earlier run has switched off and not read.
    unread: Option<usize>,
    half: usize,
    /// Interfaces that are known, and the traffic of each that was read, by direction.
    known: BTreeMap<InterfaceNumber, [Traffic; 2]>,
    /// True once a packet of an unknown interface was found.
    warned: bool,
}

impl fmt::Debug for Earlier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Earlier").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Earlier {
    /// Opens the maps of all earlier runs. `position_of` returns the position up to which a run has
    /// read its maps, by the run's ID. Maps of runs without a position are removed: either the run
    /// was finished, or nothing tells to which interfaces their counts belong.
    pub fn open_all(
        pins: &PinDirectory,
        position_of: impl Fn(u64) -> Option<Position>,
    ) -> Vec<Self> {
        let mut earlier = Vec::new();
        for directory in pins.earlier() {
            let run = run_id(&directory).and_then(|id| Some((id, position_of(id)?)));
            match run.map(|(id, position)| Self::open(&directory, id, position)) {
                Some(Ok(run)) => earlier.push(run),
                Some(Err(error)) => {
                    tracing::warn!(
                        directory = %directory.display(), %error,
                        "the maps of an earlier run cannot be read: what they count is lost"
                    );
                    remove_directory(&directory);
                }
                None => remove_directory(&directory),
            }
        }
        earlier
    }

    fn open(directory: &Path, id: u64, position: Position) -> Result<Self, KernelError> {
        let open = |name: &'static str| {
            MapData::from_pin(directory.join(name)).map_err(|error| KernelError::Load(error.into()))
        };
        let size = |map: &MapData| -> Result<_, KernelError> {
            let info = map.info().map_err(|error| KernelError::Load(error.into()))?;
            Ok((info.max_entries(), info.value_size() as usize))
        };
        let maps = CacheMaps {
            control: open(names::CONTROL)?,
            flows: open(names::FLOWS)?,
            used: open(names::USED)?,
            spill: open(names::SPILL)?,
        };
        let cpus = preflight::possible_cpus();
        let ledger = open(names::LEDGER)?;
        let ((sets, set_size), (ring_bytes, _)) = (size(&maps.flows)?, size(&maps.spill)?);
        let (rows, row_size) = size(&ledger)?;
        if (set_size, row_size) != (size_of::<FlowSet>(), size_of::<Ledger>())
            || sets % (2 * cpus * 64) != 0
        {
            return Err(KernelError::Layout);
        }
        let mut cache = Cache::new(&maps, (cpus, sets / (2 * cpus)), ring_bytes)?;
        let unread = cache.skip_to(position);
        let ledgers = Mapping::new(map_fd(&ledger), rows as usize, names::LEDGER)?;
        Ok(Self {
            id,
            directory: directory.to_path_buf(),
            cache,
            ledgers: Ledgers::new(ledgers, cpus as usize),
            drops: Some([open(names::DROPS[0])?, open(names::DROPS[1])?]),
            unread,
            half: 0,
            known: BTreeMap::new(),
            warned: false,
        })
    }

    /// ID of the run.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Position after everything that was read.
    pub fn position(&self) -> Position {
        self.cache.position()
    }

    /// Sets the numbers of interfaces whose counts are passed on. An interface that appeared just
    /// before the earlier run was killed is not in its journal. The counts of such an interface are
    /// dropped: its records begin with a gap.
    pub fn count_for(&mut self, known: impl Iterator<Item = InterfaceNumber>) {
        self.known = known.map(|number| (number, [Traffic::NONE; 2])).collect();
    }

    /// Traffic of an interface that was read, by direction.
    pub(super) fn was_read(&self, interface: InterfaceNumber) -> [Traffic; 2] {
        self.known.get(&interface).copied().unwrap_or_default()
    }

    /// Switches halves. The caller waits for a grace period before it reads.
    pub(super) fn switch(&mut self) {
        self.cache.clear();
        self.half = match self.unread.take() {
            Some(half) => half,
            None => self.cache.switch(None),
        };
    }

    /// Passes every entry of the half that was switched off, and of the spill ring, to `take`.
    pub(super) fn read(&mut self, ticks: Ticks, mut take: impl FnMut(Side, Delta)) {
        let Self { cache, known, warned, half, .. } = self;
        let mut take_known = |side, delta: Delta| {
            if let Some(read) = known.get_mut(&delta.key.interface()) {
                if !delta.key.is_rejected_behind_hook() {
                    let Counters { packets, bytes, .. } = delta.counters;
                    read[delta.key.direction() as usize] += Traffic { packets, bytes };
                }
                take(side, delta);
            } else if !std::mem::replace(warned, true) {
                let number = delta.key.interface().get();
                tracing::warn!(
                    number,
                    "an earlier run has counted on an interface that is not in its journal"
                );
            }
        };
        cache.read_half(*half, ticks, |delta| take_known(Side::Before, delta));
        cache.read_ring(ticks, take_known);
    }

    /// Clears everything that was read.
    pub(super) fn clear(&mut self) {
        self.cache.clear();
    }

    /// Ledger of an interface by direction.
    pub(super) fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.ledgers.of(interface)
    }

    /// Removes the maps.
    pub(super) fn remove(self) {
        remove_directory(&self.directory);
    }
}

/// ID of the run whose maps are in this directory.
pub fn run_id(directory: &Path) -> Option<u64> {
    let name = directory.file_name()?.to_str()?;
    u64::from_str_radix(name.strip_prefix(MAPS)?, 16).ok()
}
