//! The programs of `observer-ebpf`, loaded once per interface over shared maps.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, ProgramArray},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use observer_ebpf::{
    abi::{
        Clock, Direction, DropKey, DropSlot, FlowKey, FlowSet, FlowSlot, Ledger, WAYS, names,
        names::Continuation,
    },
    hash,
};

use super::{
    KernelError,
    drops::Terrain,
    ticks,
    xdp::{self, XdpMode, XdpPlan},
};

/// The object that `cargo xtask build` made.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OBSERVER_EBPF_OBJECT"));

/// The maps that all loads share, by the files that they are pinned to.
const SHARED: [&str; 19] = [
    names::CONTROL,
    names::FLOWS,
    names::USED,
    names::LEDGER,
    names::SPILL,
    names::FRAGMENTS,
    names::HEADERS,
    names::UNUSUAL.array,
    names::SEGMENTS.array,
    names::UNUSUAL_XDP.array,
    names::UNUSUAL_XDP_FRAGS.array,
    names::REPLAY,
    names::OWNERS,
    names::WATCHED,
    names::DROPS[0],
    names::DROPS[1],
    names::DROP_COUNTS,
    names::DROP_STATE,
    names::LOGS,
];

/// Interfaces that can be observed at once: an instance with trunked ENIs runs 120 tasks at most (AWS, "Elastic
/// network interface trunking"), and bridge mode adds one per container.
pub const MAX_INTERFACES: u16 = 512;

/// How `--flow-memory` is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Possible CPUs.
    pub cpus: u32,
    /// Sets per CPU and half; a multiple of 64.
    pub sets: u32,
    /// Bytes of the spill ring: a power of two.
    pub ring_bytes: u32,
    /// Interfaces with room in the ledger, from 1.
    pub interfaces: u16,
    /// Flows that policy dropped, per half.
    pub drops: u32,
    /// Flows that were not delivered, per half.
    pub undelivered: u32,
    /// Flows of a second of which it is known who of several tasks sends them.
    pub owners: u32,
}

impl Sizes {
    const HALVES: u64 = 2;
    /// Sets come in groups of 64, because a word of the `USED` map stands for so many.
    const GROUP: u64 = 64 * size_of::<FlowSet>() as u64 + 8;
    const MIN_RING: u64 = 64 << 10;
    const MAX_RING: u64 = 64 << 20;
    /// An element of a hash map with its share of buckets, which are two words for up to two elements of four.
    const DROP: u64 = 48 + (size_of::<DropKey>() + size_of::<DropSlot>()) as u64 + 32;
    const OWNER: u64 = 48 + (size_of::<FlowKey>() + size_of::<u64>()) as u64 + 32;

    /// Divides `budget` bytes: a quarter for the spill ring, at most a quarter for the ledger, a sixteenth for drops, a
    /// 64th for what was not delivered, another for who sends, the rest for flows.
    pub fn from_budget(budget: u64, cpus: u32) -> Result<Self, KernelError> {
        let rows = Self::HALVES * u64::from(cpus);
        let per_interface = 2 * u64::from(cpus) * size_of::<Ledger>() as u64;
        let quarter = budget / 4;
        let ring_bytes =
            if quarter < Self::MIN_RING { Self::MIN_RING } else { 1 << quarter.min(Self::MAX_RING).ilog2() };
        // number 0 is never given away, and takes room all the same
        let interfaces = (quarter / per_interface).clamp(64, u64::from(MAX_INTERFACES) + 1);
        let drops = budget / 16 / Self::HALVES / Self::DROP;
        let undelivered = drops / 4;
        let owners = budget / 64 / Self::OWNER;
        let fixed = ring_bytes
            + interfaces * per_interface
            + Self::HALVES * (drops + undelivered) * Self::DROP
            + owners * Self::OWNER;
        let groups = budget.saturating_sub(fixed) / (rows * Self::GROUP);
        if groups == 0 {
            let least = (Self::MIN_RING + 64 * per_interface + rows * Self::GROUP) * 64 / 42;
            return Err(KernelError::Memory { given: budget, cpus, least });
        }
        Ok(Self {
            cpus,
            // the index of the last set must fit 32 bits
            sets: (groups * 64).min(u64::from(u32::MAX) / rows / 64 * 64) as u32,
            ring_bytes: ring_bytes as u32,
            interfaces: interfaces as u16,
            drops: drops.clamp(1, u32::MAX.into()) as u32,
            undelivered: undelivered.clamp(1, u32::MAX.into()) as u32,
            owners: owners.clamp(1, u32::MAX.into()) as u32,
        })
    }

    /// Entries that each of so many interfaces may make in one direction, on one CPU and in one half.
    pub(super) fn share(&self, interfaces: u32) -> u32 {
        let directions = Direction::ALL.len() as u32;
        self.sets * WAYS as u32 / directions / interfaces.max(1)
    }

    /// Flows that one half of the cache holds over all CPUs.
    pub fn flows(&self) -> u64 {
        u64::from(self.sets) * u64::from(self.cpus) * size_of::<FlowSet>() as u64
            / size_of::<FlowSlot>() as u64
    }

    pub(super) fn rows(&self) -> u32 {
        Self::HALVES as u32 * self.cpus
    }
}

/// Loads the programs; the first load makes the shared maps, and what the programs of all interfaces go on into.
///
/// One is kept for the daemon's life: making it reads the kernel's BTF, which takes 16 ms.
pub struct Loader {
    aya: EbpfLoader<'static>,
    object: &'static [u8],
    sizes: Sizes,
    pins: PathBuf,
    /// By the number of an interface: what XDP marks its packets with.
    marks: &'static [u32; MAX_INTERFACES as usize + 1],
    /// The arrays that are filled, by name. An array forgets its programs when nobody has it open.
    continuations: BTreeMap<&'static str, ProgramArray<MapData>>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader").field("sizes", &self.sizes).field("pins", &self.pins).finish_non_exhaustive()
    }
}

/// What a loader is made for.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// Level of the programs' own diagnostics: 0 for none, 4 for debug.
    pub log_level: u8,
    /// Where the times of packets come from.
    pub clock: Clock,
}

impl LoaderOptions {
    fn fragment_ticks(&self) -> u32 {
        ticks::fragment_ticks(match self.clock {
            Clock::Ticks => ticks::length_ns(),
            Clock::Replay => 1_000_000,
        })
    }
}

/// Constants of a load must outlive the loader, and aya borrows them: these are all that an interface can have.
static NUMBERS: LazyLock<[u16; MAX_INTERFACES as usize + 1]> =
    LazyLock::new(|| std::array::from_fn(|number| number as u16));
static ETHERNET: u32 = 14;
static BARE: u32 = 0;
static NO: u32 = 0;
static YES: u32 = 1;

impl Loader {
    /// A loader whose maps are pinned in `pins`.
    pub fn new(options: LoaderOptions, pins: &Path) -> Result<Self, KernelError> {
        let sizes = options.sizes;
        let mut factors = [0_u64; hash::FACTORS];
        for factor in &mut factors {
            *factor = random()? | 1;
        }
        let mut loader = EbpfLoader::new();
        // Nothing in the object is relocated against the kernel's types.
        loader.btf(None).verifier_log_level(VerifierLogLevel::DISABLE);
        loader
            .override_global(names::CPUS, leak(sizes.cpus), true)
            .override_global(names::SETS, leak(sizes.sets), true)
            .override_global(names::RING_PRESSED, leak(sizes.ring_bytes / 4 * 3), true)
            .override_global(names::CLOCK, leak(options.clock as u32), true)
            .override_global(names::FRAGMENT_TICKS, leak(options.fragment_ticks()), true)
            .override_global(names::LOG_LEVEL, leak(options.log_level), true)
            .override_global(names::HASH_FACTORS, &*Box::leak(Box::new(factors)), true);
        let rows = sizes.rows();
        loader
            .map_max_entries(names::FLOWS, rows * sizes.sets)
            .map_max_entries(names::USED, rows * (sizes.sets / 64))
            .map_max_entries(names::LEDGER, u32::from(sizes.interfaces) * 2 * sizes.cpus)
            .map_max_entries(names::SPILL, sizes.ring_bytes)
            .map_max_entries(names::OWNERS, sizes.owners);
        for name in SHARED {
            loader.map_pin_path(name, pins.join(name));
        }
        // Neither that of another daemon nor what lies there by chance; never 0.
        let mark = random()? as u32 | 1 << 31;
        let marks = leak(std::array::from_fn(|number| mark ^ number as u32));
        let (pins, continuations) = (pins.to_path_buf(), BTreeMap::new());
        Ok(Self { aya: loader, object: OBJECT, sizes, pins, marks, continuations })
    }

    /// Loads from another object in place of the daemon's, for benchmarks. What it has beyond that is to be set on the
    /// loader that this returns.
    pub fn replace_object(&mut self, object: &'static [u8]) -> &mut EbpfLoader<'static> {
        self.object = object;
        &mut self.aya
    }

    /// Makes room for drops in the maps that the first load will make.
    pub fn make_room_for_drops(&mut self) {
        let interfaces = u32::from(self.sizes.interfaces);
        self.aya
            // an interface and its namespace
            .map_max_entries(names::WATCHED, 2 * interfaces)
            // more reasons than any interface has at once
            .map_max_entries(names::DROP_COUNTS, 16 * interfaces)
            .map_max_entries(names::DROPS[0], self.sizes.drops)
            .map_max_entries(names::DROPS[1], self.sizes.drops)
            .map_max_entries(names::UNDELIVERED[0], self.sizes.undelivered)
            .map_max_entries(names::UNDELIVERED[1], self.sizes.undelivered);
    }

    /// How large the maps are.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Loads the TC programs for the interface with this number, which carries Ethernet or bare IP.
    pub fn load(&mut self, interface: u16, ethernet: bool) -> Result<Programs, KernelError> {
        self.load_for(interface, ethernet, None, false)
    }

    /// The same for an interface that the tasks of the host share, with XDP or without.
    pub fn load_shared(
        &mut self,
        interface: u16,
        ethernet: bool,
        xdp: Option<XdpPlan>,
    ) -> Result<Programs, KernelError> {
        self.load_for(interface, ethernet, xdp, true)
    }

    /// Loads the programs for an interface with an Ethernet header on which XDP counts ingress.
    pub fn load_xdp(&mut self, interface: u16, plan: XdpPlan) -> Result<Programs, KernelError> {
        self.load_for(interface, true, Some(plan), false)
    }

    fn load_for(
        &mut self,
        interface: u16,
        ethernet: bool,
        xdp: Option<XdpPlan>,
        shared: bool,
    ) -> Result<Programs, KernelError> {
        if interface == 0 || interface >= self.sizes.interfaces {
            return Err(KernelError::TooManyInterfaces(self.sizes.interfaces - 1));
        }
        let index = usize::from(interface);
        let marks = xdp.is_some_and(|plan| plan.companion);
        let generic = xdp.is_some_and(|plan| plan.mode == XdpMode::Generic);
        self.aya
            .override_global(names::INTERFACE, &NUMBERS[index], true)
            .override_global(names::LINK_HEADER, if ethernet { &ETHERNET } else { &BARE }, true)
            .override_global(names::XDP_MARK, if marks { &self.marks[index] } else { &NO }, true)
            .override_global(names::XDP_GENERIC, if generic { &YES } else { &NO }, true)
            .override_global(names::SHARED, if shared { &YES } else { &NO }, true);
        let result = self.load_all(xdp);
        if let Err(KernelError::Program { .. }) = result {
            // Once more, for what the verifier has to say. Asking it every time would double the time of a load.
            self.aya.verifier_log_level(VerifierLogLevel::DEBUG);
            let said = self.load_all(xdp);
            self.aya.verifier_log_level(VerifierLogLevel::DISABLE);
            return said;
        }
        result
    }

    /// Makes an object of which the drops program is to be loaded, over the same maps.
    pub(super) fn drops_object(
        &mut self,
        terrain: &Terrain,
        log: VerifierLogLevel,
    ) -> Result<Ebpf, KernelError> {
        fit(&mut self.aya, terrain);
        let object = self.aya.verifier_log_level(log).load(OBJECT);
        self.aya.verifier_log_level(VerifierLogLevel::DISABLE);
        Ok(object?)
    }

    fn load_all(&mut self, xdp: Option<XdpPlan>) -> Result<Programs, KernelError> {
        let mut programs = Programs { ebpf: self.aya.load(self.object)?, xdp };
        for direction in Direction::ALL {
            programs.load(programs.name(direction))?;
        }
        if xdp.is_some() {
            programs.load(programs.xdp_name())?;
        }
        for continuation in programs.continuations() {
            self.fill(&mut programs, continuation)?;
        }
        Ok(programs)
    }

    /// Loads what programs go on into, if no load before has.
    fn fill(&mut self, programs: &mut Programs, continuation: Continuation) -> Result<(), KernelError> {
        let Continuation { array, program } = continuation;
        if self.continuations.contains_key(array) {
            return Ok(());
        }
        programs.load(program)?;
        let data = programs.take_map(array)?;
        let mut filled = ProgramArray::try_from(Map::ProgramArray(data)).map_err(aya::EbpfError::from)?;
        let failed = |source| KernelError::Program { action: "sharing", program, source };
        let fd = programs.program(program)?.fd().map_err(failed)?;
        filled.set(0, fd, 0).map_err(|error| failed(error.into()))?;
        self.continuations.insert(array, filled);
        Ok(())
    }
}

/// The same over small maps of its own, to see whether the program loads.
pub(super) fn drops_object_apart(terrain: &Terrain, log: VerifierLogLevel) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    fit(&mut loader, terrain);
    Ok(loader.btf(None).verifier_log_level(log).load(OBJECT)?)
}

/// Fits the drops program to the kernel.
fn fit(loader: &mut EbpfLoader<'static>, terrain: &Terrain) {
    loader
        .override_global(names::LAYOUT, leak(terrain.layout.words()), true)
        .override_global(names::REASONS, leak(terrain.reasons.words()), true)
        .override_global(names::VERDICTS, leak(terrain.verdicts), true)
        .override_global(names::DROP_ARGUMENTS, leak(terrain.arguments), true);
}

/// The programs of one interface.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    xdp: Option<XdpPlan>,
}

impl Programs {
    /// What they go on into.
    fn continuations(&self) -> Vec<Continuation> {
        let mut continuations = vec![names::UNUSUAL];
        if let Some(plan) = self.xdp {
            let frags = self.xdp_name() == names::OBSERVE_XDP_FRAGS;
            continuations.push(if frags { names::UNUSUAL_XDP_FRAGS } else { names::UNUSUAL_XDP });
            if plan.companion {
                continuations.push(names::SEGMENTS);
            }
        }
        continuations
    }

    /// How XDP counts ingress; `None` where TC does.
    pub fn xdp(&self) -> Option<XdpPlan> {
        self.xdp
    }

    /// The name of the TC program for one direction.
    pub(super) fn name(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Ingress if self.xdp.is_some_and(|plan| plan.companion) => names::OBSERVE_BEHIND_XDP,
            Direction::Ingress => names::OBSERVE_INGRESS,
            Direction::Egress => names::OBSERVE_EGRESS,
        }
    }

    /// The TC program for one direction.
    pub fn get_mut(&mut self, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
        self.classifier(self.name(direction))
    }

    /// The name of the XDP program for this kernel and mode.
    ///
    /// In generic mode not the one for several buffers: since Linux 6.9 the kernel copies packets for it, and forgets
    /// the length of the link header in the copy (`skb_pp_cow_data`), so that no TC program finds the header.
    pub(super) fn xdp_name(&self) -> &'static str {
        let generic = self.xdp.is_some_and(|plan| plan.mode == XdpMode::Generic);
        if !generic && xdp::has_frags() { names::OBSERVE_XDP_FRAGS } else { names::OBSERVE_XDP }
    }

    /// The XDP program for this kernel and mode.
    pub fn xdp_mut(&mut self) -> Result<&mut Xdp, KernelError> {
        self.xdp_program(self.xdp_name())
    }

    /// Any XDP program of the object, by name.
    pub fn xdp_program(&mut self, name: &'static str) -> Result<&mut Xdp, KernelError> {
        self.program(name)?.try_into().map_err(|_| KernelError::Missing { kind: "program", name })
    }

    /// Any TC program of the object, by name.
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        self.program(name)?.try_into().map_err(|_| KernelError::Missing { kind: "program", name })
    }

    fn program(&mut self, name: &'static str) -> Result<&mut Program, KernelError> {
        self.ebpf.program_mut(name).ok_or(KernelError::Missing { kind: "program", name })
    }

    /// Has the kernel take a program for TC or XDP.
    fn load(&mut self, name: &'static str) -> Result<(), KernelError> {
        let result = match self.program(name)? {
            Program::Xdp(program) => program.load(),
            _ => self.classifier(name)?.load(),
        };
        result.map_err(|source| match source {
            ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().is_empty() => {
                KernelError::verifier(name, &verifier_log.to_string())
            }
            source => KernelError::Program { action: "loading", program: name, source },
        })
    }

    /// Closes the maps, which the programs hold themselves: twenty descriptors less for each interface.
    #[must_use]
    pub fn without_maps(mut self) -> Self {
        let names: Vec<String> = self.ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            drop(self.ebpf.take_map(&name));
        }
        self
    }

    /// Takes a map out of the object.
    pub(super) fn take_map(&mut self, name: &'static str) -> Result<MapData, KernelError> {
        match self.ebpf.take_map(name) {
            Some(Map::Array(data) | Map::HashMap(data) | Map::RingBuf(data) | Map::ProgramArray(data)) => {
                Ok(data)
            }
            _ => Err(KernelError::Missing { kind: "map", name }),
        }
    }

    /// The object, for aya-log.
    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// The descriptor of a map.
pub(super) fn map_fd(data: &MapData) -> BorrowedFd<'_> {
    data.fd().as_fd()
}

/// aya borrows the constants of a load for the loader's life, and there is one loader.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn random() -> Result<u64, KernelError> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer is as long as stated.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize {
        Ok(u64::from_ne_bytes(bytes))
    } else {
        Err(KernelError::call("getrandom", io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sizes: &Sizes) -> u64 {
        let rows = u64::from(sizes.rows());
        u64::from(sizes.ring_bytes)
            + u64::from(sizes.interfaces) * 2 * u64::from(sizes.cpus) * size_of::<Ledger>() as u64
            + rows * u64::from(sizes.sets) * size_of::<FlowSet>() as u64
            + rows * u64::from(sizes.sets) / 8
            + Sizes::HALVES * u64::from(sizes.drops + sizes.undelivered) * Sizes::DROP
            + u64::from(sizes.owners) * Sizes::OWNER
    }

    #[test]
    fn sizes_stay_within_the_budget_and_use_most_of_it() {
        for cpus in [1, 2, 4, 16, 96, 192] {
            for mib in [4, 16, 64, 100, 256, 1024, 16 * 1024] {
                let budget = mib << 20;
                match Sizes::from_budget(budget, cpus) {
                    Ok(sizes) => {
                        assert!(bytes(&sizes) <= budget, "{cpus} CPUs, {mib} MiB: {sizes:?}");
                        assert!(bytes(&sizes) > budget / 4, "{cpus} CPUs, {mib} MiB: {sizes:?}");
                        assert_eq!(sizes.sets % 64, 0);
                        assert!(sizes.ring_bytes.is_power_of_two());
                    }
                    Err(error) => {
                        let KernelError::Memory { least, .. } = error else { panic!("{error}") };
                        assert!(least > budget);
                        Sizes::from_budget(least, cpus).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_budget_holds_a_hundred_thousand_flows_on_two_cpus() {
        assert!(Sizes::from_budget(64 << 20, 2).unwrap().flows() > 300_000);
    }
}
