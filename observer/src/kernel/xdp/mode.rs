//! XDP modes, the user's wish for them, and the plan for one interface.

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

/// XDP settings requested by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpWish {
    /// Requested mode. `None` selects the first mode that changes nothing on the interface.
    pub mode: Option<XdpMode>,
    /// Attach even if that changes offloads, queues or limits.
    pub accept_changes: bool,
}

impl XdpWish {
    /// Modes to try, in order.
    pub(super) fn modes(self) -> &'static [XdpMode] {
        match self.mode {
            None => &[XdpMode::Native, XdpMode::Generic],
            Some(XdpMode::Native) => &[XdpMode::Native],
            Some(XdpMode::Generic) => &[XdpMode::Generic],
        }
    }
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
