//! `test kernels`: stock Debian kernels in QEMU, without network, and the kernel-dependent tests inside them.
//!
//! ```text
//! version ─▶ suites (a private apt) ─▶ kernel (cached) ─┐
//! test programs, observer, ip, tc, … ───────────────────┴▶ image (initramfs) ─▶ guest (QEMU) ─▶ report ─▶ stage
//! ```
//!
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

use std::fs;

use anyhow::{Result, bail};

pub(crate) use self::{emulator::Accelerator, version::Version};
use self::{emulator::Emulator, guest::Guest, image::Task, kernel::Kernel, suites::Suites};
use crate::{apt, paths::Paths, process::Step, setup, skips::Skip, stages::Stages, test};

/// The whole matrix.
pub(crate) const ALL: [Version; 4] =
    [Version::Series(5, 10), Version::Series(6, 1), Version::Series(6, 12), Version::Newest];

/// Scenarios of `e2e` that depend on the kernel and are quick enough for an emulated processor.
const SCENARIOS: [&str; 6] = [
    "flows::",
    "frames::every",
    "hooks::clsact_counts",
    "hooks::tcx_counts",
    "hooks::a_foreign_filter_sees",
    "churn::a_task_that_comes_and_goes",
];

/// Test targets that run in a guest, in this order, with what of them runs.
const TARGETS: [(&str, &[&str]); 3] = [("programs", &[]), ("guest", &[]), ("e2e", &SCENARIOS)];

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
    if Emulator::find(paths).is_none() {
        Emulator::install(paths)?;
    }
    let wanted: Vec<Version> = versions.iter().copied().filter(|version| newer || !here(version)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let suites = Suites::open(paths)?;
    for version in wanted {
        Kernel::bring(paths, version, &suites)?;
    }
    Ok(())
}

/// The kernels that are here, for a person.
pub(crate) fn found(paths: &Paths) -> Option<String> {
    let found: Vec<String> = ALL
        .into_iter()
        .filter_map(|version| Some(Kernel::find(paths, version)?.release().to_owned()))
        .collect();
    (!found.is_empty()).then(|| found.join(", "))
}

/// Boots these kernels one after the other, each as a stage of its own. A filter takes the place of the choice made here.
pub(crate) fn run(
    paths: &Paths,
    versions: &[Version],
    accelerator: Accelerator,
    filter: &[String],
    (stages, skips): (&mut Stages, &mut Vec<Skip>),
) -> Result<()> {
    let tasks = TARGETS
        .iter()
        .map(|(name, choice)| {
            let choice: Vec<String> = choice.iter().map(|&word| word.to_owned()).collect();
            // Nobody knows in which of the programs the tests of a filter are.
            let (args, expected) =
                if filter.is_empty() { (choice.clone(), choice) } else { (filter.to_vec(), Vec::new()) };
            Ok(Task { name: (*name).to_owned(), program: test::program(paths, name)?, args, expected })
        })
        .collect::<Result<Vec<_>>>()?;
    for version in versions {
        stages.run(&format!("kernel {version}"), || boot(paths, *version, accelerator, &tasks, skips));
    }
    Ok(())
}

fn boot(
    paths: &Paths,
    version: Version,
    accelerator: Accelerator,
    tasks: &[Task],
    skips: &mut Vec<Skip>,
) -> Result<()> {
    bring(paths, &[version], false)?;
    let (Some(emulator), Some(kernel)) = (Emulator::find(paths), Kernel::find(paths, version)) else {
        bail!("`cargo xtask setup --only kernels` brought no Linux {version}");
    };
    println!("    Linux {}", kernel.release());
    let step = Step::begin("packing what runs in the guest");
    let initramfs = image::write(paths, &kernel, tasks)?;
    step.end();
    let qemu = emulator.command(&kernel, &initramfs, accelerator)?;
    Guest { qemu, console: kernel.console() }.run(tasks, &version.to_string(), skips)?;
    // Over a hundred megabytes, which only a failure is worth.
    Ok(fs::remove_file(initramfs)?)
}
