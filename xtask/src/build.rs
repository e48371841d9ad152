//! `build`: builds the eBPF objects if they are out of date, then the daemon.

use anyhow::Result;

use crate::{
    object::{self, Object},
    paths::Paths,
    progress::{self, Step},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A development build of the daemon, quick to compile
    #[arg(long, conflicts_with = "object")]
    debug: bool,
    /// Build the eBPF objects from their sources and put them into the repository; nothing else
    #[arg(long)]
    object: bool,
    /// Print the paths of the results
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    if args.object {
        progress::plan(object::steps_of_replacing(paths));
        object::replace(paths)?;
    } else {
        progress::plan(steps(paths)?);
        object::ensure(paths)?;
        daemon(paths, args.debug)?;
    }
    if args.verbose {
        println!("    embedded: {}", Object::Product.path(paths).display());
        let unstripped = object::unstripped(paths, Object::Product);
        if unstripped.exists() {
            println!("    with debug information: {}", unstripped.display());
        }
        if !args.object {
            let profile = if args.debug { "debug" } else { "release" };
            println!("    daemon: {}", paths.target.join(profile).join("observer").display());
        }
    }
    Ok(())
}

/// The number of steps that [`all`] takes.
pub(crate) fn steps(paths: &Paths) -> Result<usize> {
    Ok(object::steps(paths)? + 1)
}

/// Builds everything that running and testing needs.
pub(crate) fn all(paths: &Paths) -> Result<()> {
    object::ensure(paths)?;
    daemon(paths, false)
}

fn daemon(paths: &Paths, debug: bool) -> Result<()> {
    let step = Step::begin("compiling the daemon");
    let mut cargo = paths.cargo();
    cargo.args(["build", "-p", "observer"]);
    if !debug {
        cargo.arg("--release");
    }
    step.cargo(&mut cargo)?;
    step.end();
    Ok(())
}
