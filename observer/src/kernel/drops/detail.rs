//! Detail in which the kernel reports drops.

use std::fmt;

use super::{offsets::KernelOffsets, reasons::ReasonTable};

/// Detail in which this kernel reports drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropDetail {
    /// Counts with reasons. Flows that policy drops become `REJECT`.
    Reasons,
    /// Counts without reasons (before Linux 5.18, which added the reason for netfilter).
    Counts,
}

impl DropDetail {
    pub(super) fn of(offsets: &KernelOffsets, reasons: &ReasonTable) -> Self {
        // The reason is the third argument.
        let has_reasons = offsets.arguments >= 3 && reasons.has_netfilter();
        if has_reasons { Self::Reasons } else { Self::Counts }
    }
}

impl fmt::Display for DropDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reasons => "drops are counted with their reasons",
            Self::Counts => {
                "drops are counted without reasons, and none becomes REJECT: this kernel gives no reasons (Linux 5.18 does)"
            }
        })
    }
}
