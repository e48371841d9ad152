//! Rows of record files, read by other programs.

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    daemon::{command, run_to_end},
    python::Python,
};

/// A row: its values as text.
pub type Row = Vec<Option<String>>;

/// Outputs that write files.
pub const FILES: [&str; 3] = ["text", "parquet", "jsonl"];

#[derive(Deserialize)]
struct Answer {
    reader: String,
    format: String,
    rows: Vec<Row>,
}

/// Rows of these columns below `directory`, by reader and output: read by DuckDB, ClickHouse and
/// pyarrow, and for Parquet by flowlogs-reader. DuckDB and ClickHouse use table definitions from
/// `observer schema` with `flags`, which are kept in `scratch`.
pub fn read(
    python: &Python,
    directory: &Path,
    outputs: &[&str],
    columns: &[String],
    flags: &[String],
    scratch: &Path,
) -> Result<BTreeMap<(String, String), Vec<Row>>> {
    fs::create_dir_all(scratch)?;
    let mut arguments = vec![OsString::from(columns.join(","))];
    for output in outputs {
        let mut argument = format!("{output}={}", directory.display());
        for database in ["duckdb", "clickhouse"] {
            let view = scratch.join(format!("{output}-{database}.sql"));
            fs::write(&view, schema(database, directory, output, flags)?)?;
            argument.push('=');
            argument.push_str(&view.display().to_string());
        }
        arguments.push(argument.into());
    }
    let answers = python.run("rows.py", arguments)?;
    answers
        .lines()
        .map(|line| {
            let Answer { reader, format, rows } =
                serde_json::from_str(line).context("a line of rows.py")?;
            Ok(((reader, format), rows))
        })
        .collect()
}

/// Output of `observer schema`.
pub fn schema(reader: &str, directory: &Path, output: &str, flags: &[String]) -> Result<String> {
    let mut command: Command = command()?;
    command.args(["schema", reader, "--output", output, "--output-dir"]).arg(directory).args(flags);
    let exit = run_to_end(&mut command, Duration::from_secs(10))?;
    ensure!(exit.status.success(), "{command:?} says {}", exit.stderr);
    Ok(exit.stdout)
}
