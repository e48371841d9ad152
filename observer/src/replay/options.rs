//! Settings of a replay.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::tasks::Mac;

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
    /// True to print the report as JSON.
    pub json: bool,
}
