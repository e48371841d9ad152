//! Python packages that read record files and that stand in for AWS, in a private folder.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{host, paths::Paths, progress::Step};

/// Pinned, because a test result holds for one version of a reader. `chdb` is ClickHouse; `parquet`
/// is the reader inside flowlogs-reader; flask and flask-cors make moto a server.
const PACKAGES: [&str; 8] = [
    "duckdb==2.0.0",
    "chdb-core-lite==26.5.0",
    "pyarrow==26.0.1",
    "flowlogs_reader==5.0.1",
    "parquet==1.3.1",
    "moto[s3]==5.2.5",
    "flask==3.1.3",
    "flask-cors==6.0.5",
];

/// Name of the file that lists the folder's packages. It is written last.
const STAMP: &str = ".packages";

fn folder(paths: &Paths) -> PathBuf {
    paths.toolchain().join("readers")
}

/// The folder, if it holds exactly these packages.
pub(crate) fn found(paths: &Paths) -> Option<PathBuf> {
    let folder = folder(paths);
    let stamp = fs::read_to_string(folder.join(STAMP)).ok()?;
    (stamp == stamped()).then_some(folder)
}

fn stamped() -> String {
    PACKAGES.join("\n") + "\n"
}

/// Installs them; the folder appears when it is complete.
pub(crate) fn install(paths: &Paths) -> Result<()> {
    let step =
        Step::begin("fetching the readers of the tests: DuckDB, ClickHouse, pyarrow, moto …");
    let folder = folder(paths);
    let partial = folder.with_extension("partial");
    for old in [&partial, &folder] {
        if old.exists() {
            fs::remove_dir_all(old)
                .with_context(|| format!("{} cannot be removed", old.display()))?;
        }
    }
    let mut pip = Command::new(host::find_program("python3").unwrap_or_else(|| "python3".into()));
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    // The folder is private, so packages installed elsewhere and their owners do not matter.
    pip.args(["--no-warn-conflicts", "--root-user-action=ignore"]);
    step.run(pip.arg("--target").arg(&partial).args(PACKAGES))
        .context("the packages could not be installed: does pip reach its index?")?;
    fs::write(partial.join(STAMP), stamped())?;
    fs::rename(&partial, &folder)?;
    step.end();
    Ok(())
}
