//! Settings of a replay.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::{config::OutputConfig, tasks::Mac};

/// The capture to replay, and its interpretation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Path of the capture; `-` for standard input.
    pub file: PathBuf,
    /// Networks on the interface's side.
    pub local: Vec<IpNet>,
    /// MAC address of the interface.
    pub local_mac: Option<Mac>,
    /// MTU of the interface, in bytes.
    pub mtu: Option<u32>,
    /// Saved output of `aws ecs describe-tasks`, for the ENI with `local_mac`.
    pub tasks_file: Option<PathBuf>,
    /// True to print the report as JSON.
    pub json: bool,
    /// Outputs, and settings of the records.
    pub output: OutputConfig,
}
