//! XDP modes, the user's wish for them, and the plan for one interface.

use clap::ValueEnum;
use serde::Serialize;

use crate::kernel::preflight::KernelVersion;

/// XDP mode of an attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Runs in the driver, before the kernel allocates a socket buffer.
    Native,
    /// Runs at the start of the network stack, before TC.
    Generic,
}

impl XdpMode {
    /// Name used in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_DRV_MODE` or `XDP_FLAGS_SKB_MODE`. Without either flag the kernel chooses the
    /// mode.
    pub(super) const fn flags(self) -> u32 {
        match self {
            Self::Native => 1 << 2,
            Self::Generic => 1 << 1,
        }
    }
}

/// Modes that may be used: values of `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpSelection {
    /// Native if that changes nothing, else generic if that changes nothing
    Auto,
    /// In the driver
    Native,
    /// Before the network stack
    Generic,
}

impl XdpSelection {
    /// Modes to try, in order.
    pub(super) const fn modes(self) -> &'static [XdpMode] {
        match self {
            Self::Auto => &[XdpMode::Native, XdpMode::Generic],
            Self::Native => &[XdpMode::Native],
            Self::Generic => &[XdpMode::Generic],
        }
    }
}

/// Action if XDP would change offloads, queues or limits of an interface: values of
/// `--xdp-changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpChanges {
    /// Count at TC on this interface
    Refuse,
    /// Attach XDP anyway
    Accept,
}

/// XDP settings requested by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpWish {
    /// Modes that may be used.
    pub mode: XdpSelection,
    /// Permission to change the interface.
    pub changes: XdpChanges,
}

/// Plan for counting the ingress of one interface by XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpPlan {
    /// Mode to attach in.
    pub mode: XdpMode,
    /// Attach a TC program too. It counts packets that XDP cannot: segments of super-packets and
    /// packets redirected past XDP. Native XDP on a network card needs none: it has neither, and
    /// its driver may reserve no room for marks.
    pub companion: bool,
}

/// Returns whether this kernel supports XDP with multi-buffer packets and the helpers that read
/// them (Linux 5.18).
pub fn has_frags() -> bool {
    KernelVersion::running().at_least(5, 18)
}
