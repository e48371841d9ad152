//! Loaded programs with private maps, on a thread pinned to one CPU.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use aya::programs::{TestRun, TestRunOptions};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use observer::kernel::{
    Drain, KernelError, Loader, LoaderOptions, Programs, Sizes, bpffs::PinDirectory, grace::Grace,
    preflight,
};
use observer_ebpf::abi::Clock;

/// The default of `--flow-memory`.
pub(crate) const FLOW_MEMORY: u64 = 64 << 20;

/// Folder of pinned maps, and the loader of programs that use them.
pub(crate) struct Place {
    pub(crate) loader: Loader,
    // Dropped in this order: the pins' mount before its folder.
    _pins: PinDirectory,
    _directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(flow_memory: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let pins = PinDirectory::create(&directory.path().join("pins"), directory.path())?;
        let sizes = Sizes::from_budget(flow_memory, preflight::possible_cpus())?;
        let options = LoaderOptions { sizes, log_level: 0, clock: Clock::Ticks };
        Ok(Self { loader: Loader::new(options, pins.path())?, _pins: pins, _directory: directory })
    }

    /// The reader of the maps that `programs` use.
    pub(crate) fn drain(&self, programs: &mut Programs) -> Result<Drain> {
        Ok(Drain::new(programs, self.loader.sizes(), Grace::new()?)?)
    }
}

/// The object with the programs that the packet path is compared with.
pub(crate) fn bench_object() -> Result<&'static [u8]> {
    let path = std::env::var_os("OBSERVER_BENCH_OBJECT")
        .context("OBSERVER_BENCH_OBJECT is not set: run this by `cargo xtask bench`")?;
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.to_string_lossy()))?;
    Ok(bytes.leak())
}

/// Pins this thread to a CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Nanoseconds per run of a program on one packet.
pub(crate) fn time(
    programs: &mut Programs,
    name: &'static str,
    packet: &[u8],
    repeat: u32,
) -> Result<f64> {
    let program = programs.classifier(name)?;
    let result = program
        .test_run(TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::new() })
        .with_context(|| format!("running {name}"))?;
    Ok(result.duration.as_nanos() as f64)
}

/// A thread that reads like the daemon: the ring every millisecond, the cache every second.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(Drain, u64), KernelError>>,
}

impl Reader {
    pub(crate) fn start(mut drain: Drain) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut packets = 0;
            let mut round = 0_u32;
            while !stopped.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                round += 1;
                if round.is_multiple_of(1000) {
                    drain.drain(|_, delta| packets += delta.counters.packets)?;
                } else {
                    drain.read_ring(|_, delta| packets += delta.counters.packets);
                }
            }
            drain.drain(|_, delta| packets += delta.counters.packets)?;
            Ok((drain, packets))
        });
        Self { stop, thread }
    }

    /// Stops the thread; returns the number of packets that it read.
    pub(crate) fn finish(self) -> Result<(Drain, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let read = self.thread.join().map_err(|_| anyhow!("the reader panicked"))?;
        Ok(read?)
    }
}
