//! `setup`: installs missing tools and names each one; returns at once when nothing is missing.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    bpf, kernels, lock,
    paths::Paths,
    progress, readers,
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
            progress::plan(bpf::steps(paths));
            bpf::bring(paths)?;
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

/// The number of steps that [`test_tools`] takes.
pub(crate) fn steps_of_test_tools(paths: &Paths) -> usize {
    let private = [readers::found(paths).is_none(), tools::lacks_private(paths, &[Use::Tests])];
    steps_of_system(&[Use::Tests]) + private.into_iter().filter(|missing| *missing).count()
}

/// Installs the programs and the Python packages that the tests use.
pub(crate) fn test_tools(paths: &Paths) -> Result<()> {
    system(&[Use::Tests])?;
    if readers::found(paths).is_none() {
        let _lock = lock::acquire(paths)?;
        if readers::found(paths).is_none() {
            readers::install(paths)?;
        }
    }
    if tools::lacks_private(paths, &[Use::Tests]) {
        let _lock = lock::acquire(paths)?;
        // Another set-up may have installed them before this one got the lock.
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

/// Installs missing packages on the system itself, for programs that cannot be unpacked privately.
pub(crate) fn system(uses: &[Use]) -> Result<()> {
    tools::install_system(uses)
}
