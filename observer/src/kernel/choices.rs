//! Choices that a user has for all interfaces.

use clap::ValueEnum;
use serde::Serialize;

/// Hooks that count packets: values of `--hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressChoice {
    /// TC on ingress and egress
    Tc,
    /// XDP on ingress, TC on egress; TC on both if XDP is not possible
    Xdp,
}

/// Attachment of TC programs: values of `--attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMethod {
    /// The best that the kernel supports
    Auto,
    /// TCX links
    Tcx,
    /// Filters on a clsact qdisc
    Clsact,
}

/// Observation of dropped packets: values of `--drops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropsMode {
    /// If the kernel shows them
    Auto,
    /// Never
    Off,
}

/// Programs when the daemon stops: values of `--on-stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// Detach them, and remove all traces
    Detach,
    /// Let them count until the next start, which misses nothing
    Keep,
}
