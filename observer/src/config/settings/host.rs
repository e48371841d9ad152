use std::path::PathBuf;

use clap::{Args, value_parser};
use serde::Serialize;

use super::super::values::ListenAddress;
use crate::log::LogLevel;

/// Settings of the daemon's place on its host.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Daemon")]
#[serde(rename_all = "kebab-case")]
pub struct HostSettings {
    /// IP address, or localhost, and port of /metrics, /healthz and /readyz
    #[arg(long, value_name = "ADDR", env = "OBSERVER_LISTEN", default_value = "127.0.0.1:9810")]
    pub listen: ListenAddress,
    /// Maximum duration of a stop in seconds; records not written by then are counted as lost
    #[arg(
        long,
        value_name = "SECONDS",
        env = "OBSERVER_STOP_TIMEOUT",
        value_parser = value_parser!(u32).range(1..=3600),
        default_value = "15"
    )]
    pub stop_timeout: u32,
    /// Folder of the lock and private files
    #[arg(long, value_name = "DIR", env = "OBSERVER_STATE_DIR", default_value = "/run/observer")]
    pub state_dir: PathBuf,
    /// CA certificates (PEM) to trust instead of the system's, for stores and AWS APIs [default:
    /// file of `AWS_CA_BUNDLE`]
    #[arg(long, value_name = "FILE", env = "OBSERVER_CA_BUNDLE")]
    pub ca_bundle: Option<PathBuf>,
    /// Log level on standard error; debug adds diagnostics of the programs, trace also those of the
    /// libraries
    #[arg(long, value_name = "LEVEL", env = "OBSERVER_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,
}
