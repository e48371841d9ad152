//! Python programs that read our files or stand in for AWS: DuckDB, ClickHouse, pyarrow,
//! flowlogs-reader, moto.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};

use crate::{
    daemon::{Exit, run_to_end},
    requires::{self, Missing},
};

/// A Python interpreter with these packages.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
    packages: PathBuf,
}

impl Python {
    /// The packages that `cargo xtask setup` has installed: `OBSERVER_READERS`, or the folder below
    /// the target directory.
    pub fn find() -> Result<Self, Missing> {
        let program = requires::program("python3")?;
        let packages = env::var_os("OBSERVER_READERS").map_or_else(usual_place, PathBuf::from);
        if ["duckdb", "chdb", "flowlogs_reader"].iter().all(|name| packages.join(name).is_dir()) {
            Ok(Self { program, packages })
        } else {
            Err(Missing::new(
                "DuckDB, ClickHouse, pyarrow, flowlogs-reader and moto for Python: `cargo xtask setup` brings them",
            ))
        }
    }

    /// A command that runs a module or a script.
    pub fn command(&self, arguments: impl IntoIterator<Item = OsString>) -> Command {
        let mut command = Command::new(&self.program);
        command.env("PYTHONPATH", &self.packages).args(arguments).stdin(Stdio::null());
        command
    }

    /// A command that runs a script of `tests/readers`.
    pub fn script(&self, script: &str, arguments: impl IntoIterator<Item = OsString>) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(script);
        self.command([script.into_os_string()].into_iter().chain(arguments))
    }

    /// Runs a script to completion and returns its output.
    pub fn run(
        &self,
        script: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<String> {
        const PATIENCE: Duration = Duration::from_mins(2);
        let mut command = self.script(script, arguments);
        let Exit { status, stdout, stderr } = run_to_end(&mut command, PATIENCE)?;
        ensure!(status.success(), "{command:?} ends with {status}:\n{stderr}");
        Ok(stdout)
    }
}

fn usual_place() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("toolchain/readers")
}
