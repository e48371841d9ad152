//! `setup`: brings what is missing, says what and why, and is quick when all is there.

use std::fs::{self, File};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    kernels, linker,
    paths::Paths,
    progress, readers,
    toolchain::BpfToolchain,
    tools::{self, Use},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The compiler and linker of the eBPF programs
    Bpf,
    /// The programs that the tests use
    Tests,
    /// The newest kernels that the tests boot, and QEMU
    Kernels,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    match args.only {
        Some(Part::Bpf) => {
            progress::plan(steps_of_bpf(paths));
            bpf(paths)?;
        }
        Some(Part::Tests) => {
            progress::plan(steps_of_test_tools(paths));
            test_tools(paths)?;
        }
        Some(Part::Kernels) => kernels::bring(paths, &kernels::ALL, true)?,
        None => {
            progress::plan(steps_of_system(&[Use::Demo]) + steps_of_test_tools(paths));
            system(&[Use::Demo])?;
            test_tools(paths)?;
        }
    }
    println!("set up");
    Ok(())
}

/// The number of steps that [`bpf`] takes.
pub(crate) fn steps_of_bpf(paths: &Paths) -> usize {
    match BpfToolchain::found(paths) {
        Some(toolchain) => usize::from(linker::found(paths, toolchain).is_none()),
        None => 2,
    }
}

/// The compiler and the linker; silent when both are there.
pub(crate) fn bpf(paths: &Paths) -> Result<BpfToolchain> {
    if let Some(ready) = bpf_found(paths) {
        return Ok(ready);
    }
    let _lock = lock(paths)?;
    let toolchain = match BpfToolchain::found(paths) {
        Some(toolchain) => toolchain,
        None => BpfToolchain::install(paths)?,
    };
    if linker::found(paths, toolchain).is_none() {
        linker::install(paths, toolchain)?;
    }
    Ok(toolchain)
}

fn bpf_found(paths: &Paths) -> Option<BpfToolchain> {
    BpfToolchain::found(paths).filter(|toolchain| linker::found(paths, *toolchain).is_some())
}

/// The number of steps that [`test_tools`] takes.
pub(crate) fn steps_of_test_tools(paths: &Paths) -> usize {
    let private = [readers::found(paths).is_none(), tools::lacks_private(paths, &[Use::Tests])];
    steps_of_system(&[Use::Tests]) + private.into_iter().filter(|missing| *missing).count()
}

pub(crate) fn test_tools(paths: &Paths) -> Result<()> {
    system(&[Use::Tests])?;
    if readers::found(paths).is_none() {
        let _lock = lock(paths)?;
        if readers::found(paths).is_none() {
            readers::install(paths)?;
        }
    }
    if tools::lacks_private(paths, &[Use::Tests]) {
        let _lock = lock(paths)?;
        // Whoever held the lock may have brought them.
        if tools::lacks_private(paths, &[Use::Tests]) {
            tools::install_private(paths, &[Use::Tests])?;
        }
    }
    Ok(())
}

/// The number of steps that [`system`] takes.
pub(crate) fn steps_of_system(uses: &[Use]) -> usize {
    usize::from(tools::lacks_system(uses))
}

/// What the system itself must have.
pub(crate) fn system(uses: &[Use]) -> Result<()> {
    tools::install_system(uses)
}

/// One set-up at a time; the lock ends with the file.
pub(crate) fn lock(paths: &Paths) -> Result<File> {
    let folder = paths.toolchain();
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::create(folder.join(".lock"))?;
    if file.try_lock().is_err() {
        println!("waiting for another set-up …");
        file.lock()?;
    }
    Ok(file)
}
