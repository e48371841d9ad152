use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, value_parser};
use serde::Serialize;

use super::{super::values::size, optional_bytes};
use crate::kernel::{AttachMethod, DropsMode, IngressChoice, OnStop, XdpChanges, XdpSelection};

/// Settings of the programs and their maps.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Kernel")]
#[serde(rename_all = "kebab-case")]
pub struct KernelSettings {
    /// Hook that counts packets
    #[arg(long, value_name = "HOOK", env = "OBSERVER_HOOK", default_value = "tc")]
    pub hook: IngressChoice,
    /// XDP mode: native (in the driver), generic (before the network stack), or the first that
    /// changes nothing
    #[arg(long, value_name = "MODE", env = "OBSERVER_XDP_MODE", default_value = "auto")]
    pub xdp_mode: XdpSelection,
    /// Action if XDP would switch offloads, restart queues or lower MTU limits
    #[arg(long, value_name = "ACTION", env = "OBSERVER_XDP_CHANGES", default_value = "refuse")]
    pub xdp_changes: XdpChanges,
    /// Attachment of TC programs: TCX if the kernel supports it (Linux 6.6), else clsact
    #[arg(long, value_name = "METHOD", env = "OBSERVER_ATTACH", default_value = "auto")]
    pub attach: AttachMethod,
    /// Record packets dropped by host policy as REJECT; auto: if the kernel shows them
    #[arg(long, value_name = "MODE", env = "OBSERVER_DROPS", default_value = "auto")]
    pub drops: DropsMode,
    /// Kernel memory for flows, for the whole host [default: 64MiB, or an eighth of the memory
    /// limit if that is less]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FLOW_MEMORY", value_parser = size)]
    #[serde(serialize_with = "optional_bytes")]
    pub flow_memory: Option<ByteSize>,
    /// Maximum number of flows in one window, each about 100 bytes; an interface within its share
    /// may exceed it [default: 2000000, or as many as fit into the memory limit of the control
    /// group or a quarter of the host's memory]
    #[arg(
        long,
        value_name = "COUNT",
        env = "OBSERVER_MAX_FLOWS",
        value_parser = value_parser!(u32).range(1..)
    )]
    pub max_flows: Option<u32>,
    /// Programs when the daemon stops; a daemon that is killed leaves them to the next start
    #[arg(long, value_name = "ACTION", env = "OBSERVER_ON_STOP", default_value = "detach")]
    pub on_stop: OnStop,
    /// Folder on a BPF file system for pinned maps and links
    #[arg(
        long,
        value_name = "DIR",
        env = "OBSERVER_BPFFS",
        default_value = "/sys/fs/bpf/observer"
    )]
    pub bpffs: PathBuf,
}
