//! `lint`: checks of formatting, objects, dependencies, imports and code quality, beyond the tests.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{object, paths::Paths, process, shared, stages::Stages, walls};

pub(crate) fn run(paths: &Paths) -> Result<()> {
    let mut stages = Stages::default();
    stages.run("formatting", || {
        process::check(paths.cargo().args(["fmt", "--all", "--check"]))
            .context("`cargo xtask fmt` puts the formatting right")
    });
    stages.run("eBPF objects", || object::prove(paths));
    stages.run("shared dependencies", || shared::check(paths));
    stages.run("clippy", || clippy(paths));
    stages.run("rooms", || walls::check(&paths.root));
    stages.run("unfinished code", || unfinished(paths));
    stages.finish()
}

/// Runs in the release profile, so that builds and tests reuse its results.
fn clippy(paths: &Paths) -> Result<()> {
    let mut cargo = paths.cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        "observer-tests/bench",
        "--release",
    ]);
    cargo.args(["--", "-D", "warnings"]);
    process::check(&mut cargo)
}

/// Searches the text, because clippy does not see the eBPF programs and other code that is not
/// compiled for the host.
fn unfinished(paths: &Paths) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["grep", "--untracked", "-nE", r"\b(todo|unimplemented)!\(", "--", "*.rs"])
        .current_dir(&paths.root);
    match git.status().map_err(|error| process::cannot_start(&git, &error))?.code() {
        Some(1) => Ok(()),
        Some(0) => bail!("unfinished code: finish the lines above"),
        _ => bail!("`git grep` failed: is this a git checkout?"),
    }
}
