use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::values::UserGroup;
use crate::sink::Output;

/// Outputs of `run`, and their directory.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Output")]
#[serde(rename_all = "kebab-case")]
pub struct FileSettings {
    /// Directory of record files
    #[arg(
        long,
        value_name = "DIR",
        env = "OBSERVER_OUTPUT_DIR",
        default_value = "/var/log/observer"
    )]
    pub output_dir: PathBuf,
    /// Output format; may be given several times
    #[arg(
        long,
        value_name = "FORMAT",
        env = "OBSERVER_OUTPUT",
        value_delimiter = ',',
        default_value = "jsonl"
    )]
    pub output: Vec<Output>,
    /// Group that may read record files and their folders, by name or ID [default: that of the
    /// process]
    #[arg(long, value_name = "GROUP", env = "OBSERVER_OUTPUT_GROUP")]
    pub output_group: Option<UserGroup>,
}
