//! `test kernels`: stock Debian kernels in QEMU, without network, and the kernel-dependent tests inside them.
//!
//! ```text
//! version ─▶ suites (a private apt) ─▶ kernel (cached) ─┐
//! test programs, observer, ip, tc, … ───────────────────┴▶ image (initramfs) ─▶ guest (QEMU) ─▶ report ─▶ stage
//! ```
//!
//! A new test target, scenario, tool or data file of the tests is in the guests without a word here.
//! Needs no root. What is brought lies below `<target>/kernels` and serves without a network from then on.

mod cpio;
mod emulator;
mod guest;
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
    apt,
    paths::Paths,
    progress::{self, Step},
    setup,
    skips::{self, Skip},
    stages::Stages,
    test,
};

/// The whole matrix.
pub(crate) const ALL: [Version; 4] =
    [Version::Series(5, 10), Version::Series(6, 1), Version::Series(6, 12), Version::Newest];

/// What `test` boots among all else: the kernels that ECS hosts run.
pub(crate) const OF_HOSTS: [Version; 2] = [Version::Series(5, 10), Version::Series(6, 1)];

/// What of the tests runs in a guest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Extent<'a> {
    /// Of all test programs, what is not left out.
    Whole,
    /// What a kernel decides: that it takes the programs, what they count, and the scenarios made for guests.
    Core,
    /// The tests whose names contain one of these.
    Named(&'a [String]),
}

/// The test programs of [`Extent::Core`].
const CORE: [&str; 2] = [FIRST, "guest"];

/// Guests that run at once.
const AT_ONCE: usize = 2;

/// The test program whose failure says that no other can pass: `init.sh` stops there.
const FIRST: &str = "programs";

/// Which tests are not for guests, each with the reason: all others of all test programs run.
const LEFT_OUT: &str = "tests/guest/left-out.txt";

/// Why this machine cannot boot kernels, if it cannot.
pub(crate) fn missing(paths: &Paths) -> Option<&'static str> {
    if std::env::consts::ARCH != "x86_64" {
        Some("so far only kernels for x86_64 are booted")
    } else if !apt::is_here() && Emulator::find(paths).is_none() {
        Some("kernels and QEMU come as Debian packages, and there is no apt")
    } else {
        None
    }
}

/// Brings what booting these kernels needs; `newer` asks for newer ones in place of those that are here.
pub(crate) fn bring(paths: &Paths, versions: &[Version], newer: bool) -> Result<()> {
    let here = |version: &Version| Kernel::find(paths, *version).is_some();
    if !newer && Emulator::find(paths).is_some() && versions.iter().all(here) {
        return Ok(());
    }
    if let Some(missing) = missing(paths) {
        bail!("{missing}");
    }
    let _lock = setup::lock(paths)?;
    let wanted: Vec<Version> = versions.iter().copied().filter(|version| newer || !here(version)).collect();
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
        // One that cannot be had keeps none of the others from being brought.
        failed = failed.and(Kernel::bring(paths, version, &suites));
    }
    failed
}

/// The kernels that are here, for a person.
pub(crate) fn found(paths: &Paths) -> Option<String> {
    let found: Vec<String> = ALL
        .into_iter()
        .filter_map(|version| Some(Kernel::find(paths, version)?.release().to_owned()))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Boots these kernels, each as a stage of its own; one that cannot be had is a skip.
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
            (_, _, Err(error)) => skips.push(Skip::new(format!("{version}/kernel"), format!("{error:#}"))),
            (_, _, Ok(())) => bail!("`cargo xtask setup --only kernels` brought no Linux {version}"),
        }
    }
    let Some(emulator) = Emulator::find(paths).filter(|_| !kernels.is_empty()) else { return Ok(()) };
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
                        // Only a failure is worth its tens of megabytes.
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

/// All test programs, the first one first, and what of them runs.
fn tasks(paths: &Paths, extent: Extent<'_>) -> Result<Vec<Task>> {
    let list = paths.root.join(LEFT_OUT);
    let text = fs::read_to_string(&list).with_context(|| format!("{} cannot be read", list.display()))?;
    let left_out = skips::names_in(&text);
    let mut programs = test::programs(paths)?;
    programs.sort_by_key(|(name, _)| (name != FIRST, name.clone()));
    if matches!(extent, Extent::Whole) {
        let all = programs.iter().map(|(_, program)| test::tests_of(program, &[]));
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
        let tests = test::tests_of(&program, &args)?.into_iter().collect();
        Ok(Task { name, program, args: args.clone(), tests })
    };
    programs.into_iter().map(task).collect()
}

/// Packs what runs in each guest, and chooses what executes it.
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
        if kvm { "KVM runs them" } else { "QEMU emulates their processors: KVM does not work here" }
    );
    let mut guests = Vec::new();
    for (version, kernel, initramfs) in packed {
        println!("    Linux {version}: {}", kernel.release());
        let guest = Guest::new(emulator, &kernel, &initramfs, accelerator)?;
        guests.push((version, guest, initramfs));
    }
    Ok(guests)
}
