//! `fmt`: formats all Rust files.

use anyhow::Result;

use crate::{paths::Paths, process};

pub(crate) fn run(paths: &Paths) -> Result<()> {
    process::check(paths.cargo().args(["fmt", "--all"]))
}
