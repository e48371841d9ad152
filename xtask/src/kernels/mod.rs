//! `test kernels`: stock Debian kernels in QEMU, without network, and the kernel-dependent tests
//! inside them.
//!
//! ```text
//! version ─▶ suites (a private apt) ─▶ kernel (cached) ─┐
//! test programs, observer, ip, tc, … ───────────────────┴▶ image (initramfs) ─▶ guest (QEMU) ─▶ report ─▶ stage
//! ```
//!
//! A new test target, scenario, tool or data file of the tests is part of the guests without
//! further configuration. Needs no root. Downloads are kept below `<target>/kernels` and are reused
//! without a network.

mod cpio;
mod emulator;
mod guest;
mod guest_tools;
mod image;
mod kernel;
mod libraries;
mod modules;
mod report;
mod suites;
mod version;

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

pub(crate) use self::version::Version;
use self::{
    emulator::{Accelerator, Emulator},
    guest::Guest,
    image::Task,
    kernel::Kernel,
    suites::Suites,
};
use crate::{
    apt, lock,
    paths::Paths,
    progress::{self, Step},
    skips::{self, Skip},
    stages::Stages,
    targets,
};

/// All kernels that are tested.
pub(crate) const ALL: [Version; 4] =
    [Version::Series(5, 10), Version::Series(6, 1), Version::Series(6, 12), Version::Newest];

/// Kernels that `cargo xtask test` boots: those of ECS hosts.
pub(crate) const OF_HOSTS: [Version; 2] = [Version::Series(5, 10), Version::Series(6, 1)];

/// The selection of tests that run in a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// All test programs, except the tests that are left out.
    Whole,
    /// Tests whose result depends on the kernel: loading the programs, their counts, and the
    /// scenarios for guests.
    Core,
    /// The tests whose names contain one of these.
    Named(&'a [String]),
}

/// The test programs of [`Extent::Core`].
const CORE: [&str; 2] = [FIRST, "guest"];

/// Number of guests that run at once.
const AT_ONCE: usize = 2;

/// The test program that all others depend on: `init.sh` stops if it fails.
const FIRST: &str = "programs";

/// List of tests that are left out in guests, each with its reason.
const LEFT_OUT: &str = "tests/guest/left-out.txt";

/// The reason why this machine cannot boot kernels; `None` if it can.
pub(crate) fn missing(paths: &Paths) -> Option<&'static str> {
    if std::env::consts::ARCH != "x86_64" {
        Some("so far only kernels for x86_64 are booted")
    } else if !apt::is_here() && Emulator::find(paths).is_none() {
        Some("kernels and QEMU come as Debian packages, and there is no apt")
    } else {
        None
    }
}

/// Downloads QEMU and these kernels if they are missing; `newer` also replaces kernels that are
/// present.
pub(crate) fn bring(paths: &Paths, versions: &[Version], newer: bool) -> Result<()> {
    let here = |version: &Version| Kernel::find(paths, *version).is_some();
    if !newer && Emulator::find(paths).is_some() && versions.iter().all(here) {
        return Ok(());
    }
    if let Some(missing) = missing(paths) {
        bail!("{missing}");
    }
    let _lock = lock::acquire(paths)?;
    let wanted: Vec<Version> =
        versions.iter().copied().filter(|version| newer || !here(version)).collect();
    let looking = usize::from(!wanted.is_empty());
    progress::plan(usize::from(Emulator::find(paths).is_none()) + looking + wanted.len());
    if Emulator::find(paths).is_none() {
        Emulator::install(paths)?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let suites = Suites::open(paths)?;
    let mut failed = Ok(());
    for version in wanted {
        // An unavailable kernel must not keep the others from being downloaded.
        failed = failed.and(Kernel::bring(paths, version, &suites));
    }
    failed
}

/// The releases of the kernels that are present, as text.
pub(crate) fn found(paths: &Paths) -> Option<String> {
    let found: Vec<String> = ALL
        .into_iter()
        .filter_map(|version| Some(Kernel::find(paths, version)?.release().to_owned()))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Boots these kernels, each as its own stage. An unavailable kernel is a skip.
pub(crate) fn run(
    paths: &Paths,
    versions: &[Version],
    extent: Extent<'_>,
    (stages, skips): (&mut Stages, &mut Vec<Skip>),
) -> Result<()> {
    let brought = bring(paths, versions, false);
    let mut kernels = Vec::new();
    for version in versions {
        match (Emulator::find(paths), Kernel::find(paths, *version), &brought) {
            (Some(_), Some(kernel), _) => kernels.push((*version, kernel)),
            (_, _, Err(error)) => {
                skips.push(Skip::new(format!("{version}/kernel"), format!("{error:#}")));
            }
            (_, _, Ok(())) => {
                bail!("`cargo xtask setup --only kernels` brought no Linux {version}")
            }
        }
    }
    let Some(emulator) = Emulator::find(paths).filter(|_| !kernels.is_empty()) else {
        return Ok(());
    };
    let tasks = tasks(paths, extent)?;
    let guests = guests(paths, kernels, &emulator, &tasks)?;
    let queue = Mutex::new(guests.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let ended = Mutex::new((stages, skips));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((version, guest, initramfs)) = next() {
                    let began = Instant::now();
                    let (result, skipped) = guest.run(&tasks, &version.to_string());
                    let seconds = began.elapsed().as_secs_f64();
                    if result.is_ok() {
                        // The archive takes tens of megabytes and is kept only after a failure.
                        let _ = fs::remove_file(initramfs);
                    }
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.0.add(&format!("kernel {version}"), &result, seconds);
                    ended.1.extend(skipped);
                }
            });
        }
    });
    Ok(())
}

/// All test programs, the fundamental one first, with the tests that run.
fn tasks(paths: &Paths, extent: Extent<'_>) -> Result<Vec<Task>> {
    let list = paths.root.join(LEFT_OUT);
    let text =
        fs::read_to_string(&list).with_context(|| format!("{} cannot be read", list.display()))?;
    let left_out = skips::names_in(&text);
    let mut programs = targets::programs(paths)?;
    programs.sort_by_key(|(name, _)| (name != FIRST, name.clone()));
    if matches!(extent, Extent::Whole) {
        let all = programs.iter().map(|(_, program)| targets::tests_of(program, &[]));
        let all = all.collect::<Result<Vec<_>>>()?.concat();
        let stale: Vec<_> =
            left_out.iter().filter(|word| !all.iter().any(|test| test.contains(*word))).collect();
        ensure!(stale.is_empty(), "{LEFT_OUT} names what no test is called: {stale:?}");
    }
    if matches!(extent, Extent::Core) {
        programs.retain(|(name, _)| CORE.contains(&name.as_str()));
    }
    let args: Vec<String> = match extent {
        Extent::Named(filter) => filter.to_vec(),
        Extent::Whole | Extent::Core => {
            left_out.iter().flat_map(|word| ["--skip".to_owned(), (*word).to_owned()]).collect()
        }
    };
    let task = |(name, program): (String, PathBuf)| {
        let tests = targets::tests_of(&program, &args)?.into_iter().collect();
        Ok(Task { name, program, args: args.clone(), tests })
    };
    programs.into_iter().map(task).collect()
}

/// Packs the file systems of the guests and chooses their accelerator.
fn guests(
    paths: &Paths,
    kernels: Vec<(Version, Kernel)>,
    emulator: &Emulator,
    tasks: &[Task],
) -> Result<Vec<(Version, Guest, PathBuf)>> {
    progress::plan(1);
    let step = Step::begin("packing the guests' file systems");
    let mut packed = Vec::new();
    for (version, kernel) in kernels {
        let initramfs = image::write(paths, &kernel, tasks)?;
        packed.push((version, kernel, initramfs));
    }
    let kvm = match packed.first() {
        Some((_, kernel, initramfs)) => guest::kvm_works(emulator, kernel, initramfs)?,
        None => false,
    };
    let accelerator = if kvm { Accelerator::Kvm } else { Accelerator::Emulation };
    step.end();
    println!(
        "    {}",
        if kvm {
            "KVM runs them"
        } else {
            "QEMU emulates their processors: KVM does not work here"
        }
    );
    let mut guests = Vec::new();
    for (version, kernel, initramfs) in packed {
        println!("    Linux {version}: {}", kernel.release());
        let guest = Guest::new(emulator, &kernel, &initramfs, accelerator)?;
        guests.push((version, guest, initramfs));
    }
    Ok(guests)
}
