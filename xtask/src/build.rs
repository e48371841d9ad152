//! `build`: the eBPF object first, then the daemon that embeds it.

use anyhow::Result;

use crate::{
    object::{self, Object, Warnings},
    paths::Paths,
    process::{self, Step},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A development build of the daemon, quick to compile
    #[arg(long)]
    debug: bool,
    /// Say where things are
    #[arg(long, short)]
    verbose: bool,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    let toolchain = setup::bpf(paths)?;
    let unstripped = object::build(paths, toolchain, Object::Product, Warnings::Allowed)?;
    if args.verbose {
        println!("    with debug information: {}", unstripped.display());
        println!("    embedded: {}", paths.object().display());
    }
    daemon(paths, args.debug)?;
    if args.verbose {
        let profile = if args.debug { "debug" } else { "release" };
        println!("    daemon: {}", paths.target.join(profile).join("observer").display());
    }
    Ok(())
}

/// Everything that running and testing needs.
pub(crate) fn all(paths: &Paths) -> Result<()> {
    object(paths, Object::Product, Warnings::Allowed)?;
    daemon(paths, false)
}

/// An object alone.
pub(crate) fn object(paths: &Paths, object: Object, warnings: Warnings) -> Result<()> {
    object::build(paths, setup::bpf(paths)?, object, warnings).map(drop)
}

fn daemon(paths: &Paths, debug: bool) -> Result<()> {
    let step = Step::begin("building the daemon");
    let mut cargo = paths.cargo();
    cargo.args(["build", "-p", "observer"]);
    if !debug {
        cargo.arg("--release");
    }
    process::check(&mut cargo)?;
    step.end();
    Ok(())
}
