//! Loading the programs of `observer-ebpf`, once per interface, over shared maps.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{Map, MapData, ProgramArray},
};
use observer_ebpf::{
    abi::{
        Clock, Direction,
        names::{self, Continuation},
    },
    hash,
};

use super::{
    KernelError, Programs, Sizes,
    drops::{KernelOffsets, ReasonTable},
    sizes::MAX_INTERFACES,
    ticks,
    xdp::{XdpMode, XdpPlan},
};

/// Object file with all eBPF programs, chosen by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("OBSERVER_EBPF_OBJECT"));

/// Maps shared by all loads. Each is pinned to a file with its name.
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

/// Loader of the programs. The first load also creates the shared maps and loads the programs
/// shared by all interfaces.
///
/// The daemon keeps one loader for its lifetime: creating it reads the kernel's BTF, which takes 16
/// ms.
pub struct Loader {
    aya: EbpfLoader<'static>,
    object: &'static [u8],
    sizes: Sizes,
    pins: PathBuf,
    /// Marks that XDP sets on packets, by interface number.
    marks: &'static [u32; MAX_INTERFACES as usize + 1],
    /// Filled program arrays, by name. The kernel empties a program array when its last descriptor
    /// is closed.
    continuations: BTreeMap<&'static str, ProgramArray<MapData>>,
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("sizes", &self.sizes)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

/// Options of a loader.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// Log level of the programs: 0 for none, 4 for debug.
    pub log_level: u8,
    /// Source of packet times.
    pub clock: Clock,
}

impl LoaderOptions {
    /// Ticks for which the kernel waits for the fragments of an IPv4 packet.
    fn fragment_ticks(&self) -> u32 {
        ticks::fragment_ticks(match self.clock {
            Clock::Ticks => ticks::length_ns(),
            Clock::Replay => 1_000_000,
        })
    }
}

/// All interface numbers. aya borrows the constants of a load, so they must outlive the loader.
static NUMBERS: LazyLock<[u16; MAX_INTERFACES as usize + 1]> =
    LazyLock::new(|| std::array::from_fn(|number| number as u16));
static ETHERNET: u32 = 14;
static BARE: u32 = 0;
static NO: u32 = 0;
static YES: u32 = 1;

impl Loader {
    /// Creates a loader that pins its maps in the directory `pins`.
    pub fn new(options: LoaderOptions, pins: &Path) -> Result<Self, KernelError> {
        let sizes = options.sizes;
        let mut factors = [0_u64; hash::FACTORS];
        for factor in &mut factors {
            *factor = getrandom::u64().map_err(unseeded)? | 1;
        }
        let mut loader = EbpfLoader::new();
        // The object has no relocations against kernel types.
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
        // Random, so that marks of another daemon and stray data do not match. Never 0.
        let mark = getrandom::u64().map_err(unseeded)? as u32 | 1 << 31;
        let marks = leak(std::array::from_fn(|number| mark ^ number as u32));
        let (pins, continuations) = (pins.to_path_buf(), BTreeMap::new());
        Ok(Self { aya: loader, object: OBJECT, sizes, pins, marks, continuations })
    }

    /// Sets the mark of packets that XDP has counted: that of an earlier run, whose programs may mark
    /// a packet that those of this run meet. Call before the first load.
    pub fn set_mark(&mut self, mark: u32) {
        self.marks = leak(std::array::from_fn(|number| mark ^ number as u32));
    }

    /// Replaces the object file, for benchmarks. Additional constants and maps of that object can
    /// be set on the returned loader.
    pub fn replace_object(&mut self, object: &'static [u8]) -> &mut EbpfLoader<'static> {
        self.object = object;
        &mut self.aya
    }

    /// Sizes the maps for drops. Call it before the first load; otherwise they hold one element
    /// each.
    pub fn make_room_for_drops(&mut self) {
        let interfaces = u32::from(self.sizes.interfaces);
        self.aya
            // One for the interface and one for its namespace.
            .map_max_entries(names::WATCHED, 2 * interfaces)
            // More reasons than any interface has at once.
            .map_max_entries(names::DROP_COUNTS, 16 * interfaces)
            .map_max_entries(names::DROPS[0], self.sizes.drops)
            .map_max_entries(names::DROPS[1], self.sizes.drops)
            .map_max_entries(names::UNDELIVERED[0], self.sizes.undelivered)
            .map_max_entries(names::UNDELIVERED[1], self.sizes.undelivered);
    }

    /// Sizes of the maps.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Loads the TC programs for an interface. Its frames have an Ethernet header (`ethernet`) or
    /// no link header.
    pub fn load(&mut self, interface: u16, ethernet: bool) -> Result<Programs, KernelError> {
        self.load_for(interface, ethernet, None, false)
    }

    /// Loads the programs for an interface that several tasks share, with or without XDP.
    pub fn load_shared(
        &mut self,
        interface: u16,
        ethernet: bool,
        xdp: Option<XdpPlan>,
    ) -> Result<Programs, KernelError> {
        self.load_for(interface, ethernet, xdp, true)
    }

    /// Loads the programs for an Ethernet interface on which XDP counts ingress.
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
            // Load again with the verifier's log, which would double the time of every load.
            self.aya.verifier_log_level(VerifierLogLevel::DEBUG);
            let logged = self.load_all(xdp);
            self.aya.verifier_log_level(VerifierLogLevel::DISABLE);
            return logged;
        }
        result
    }

    /// Creates an object for the drops program, over the shared maps.
    pub(super) fn drops_object(
        &mut self,
        offsets: &KernelOffsets,
        reasons: &ReasonTable,
        log: VerifierLogLevel,
    ) -> Result<Ebpf, KernelError> {
        fit(&mut self.aya, offsets, reasons);
        let object = self.aya.verifier_log_level(log).load(OBJECT);
        self.aya.verifier_log_level(VerifierLogLevel::DISABLE);
        Ok(object?)
    }

    /// Loads the object and all programs that the plan needs.
    fn load_all(&mut self, xdp: Option<XdpPlan>) -> Result<Programs, KernelError> {
        let mut programs = Programs::new(self.aya.load(self.object)?, xdp);
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

    /// Loads the target of a tail call and puts it into its program array, unless an earlier load
    /// did.
    fn fill(
        &mut self,
        programs: &mut Programs,
        continuation: Continuation,
    ) -> Result<(), KernelError> {
        let Continuation { array, program } = continuation;
        if self.continuations.contains_key(array) {
            return Ok(());
        }
        programs.load(program)?;
        let data = programs.take_map(array)?;
        let mut filled =
            ProgramArray::try_from(Map::ProgramArray(data)).map_err(aya::EbpfError::from)?;
        let failed = |source| KernelError::Program { action: "sharing", program, source };
        let fd = programs.program(program)?.fd().map_err(failed)?;
        filled.set(0, fd, 0).map_err(|error| failed(error.into()))?;
        self.continuations.insert(array, filled);
        Ok(())
    }
}

/// Creates an object for the drops program over small maps of its own, to test whether the program
/// loads.
pub(super) fn drops_probe_object(
    offsets: &KernelOffsets,
    reasons: &ReasonTable,
    log: VerifierLogLevel,
) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    fit(&mut loader, offsets, reasons);
    Ok(loader.btf(None).verifier_log_level(log).load(OBJECT)?)
}

/// Sets the constants of the drops program that depend on the running kernel.
fn fit(loader: &mut EbpfLoader<'static>, offsets: &KernelOffsets, reasons: &ReasonTable) {
    loader
        .override_global(names::LAYOUT, leak(offsets.layout.words()), true)
        .override_global(names::REASONS, leak(reasons.numbers.words()), true)
        .override_global(names::VERDICTS, leak(reasons.verdicts), true)
        .override_global(names::DROP_ARGUMENTS, leak(offsets.arguments), true);
}

/// Leaks a constant of a load. aya borrows constants for the life of the loader, and a process has
/// one loader.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Error of the system's random number generator.
fn unseeded(error: getrandom::Error) -> KernelError {
    KernelError::call("getrandom", io::Error::other(error))
}
