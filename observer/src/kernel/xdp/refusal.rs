//! Reasons for not attaching XDP to an interface.

use std::fmt;

use super::mode::XdpMode;

/// Why XDP is not attached: values of the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another XDP program is attached.
    Busy,
    /// Frames have no Ethernet header.
    NotEthernet,
    /// The kernel or the driver does not support the mode.
    Unsupported,
    /// Attaching would change offloads.
    Offloads,
    /// The MTU is too large, or attaching would lower its limit.
    Mtu,
    /// Attaching would restart queues, or there are too few of them.
    Queues,
    /// The kernel refused for another reason.
    Failed,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Busy,
        Self::NotEthernet,
        Self::Unsupported,
        Self::Offloads,
        Self::Mtu,
        Self::Queues,
        Self::Failed,
    ];

    /// Value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NotEthernet => "not_ethernet",
            Self::Unsupported => "unsupported",
            Self::Offloads => "offloads",
            Self::Mtu => "mtu",
            Self::Queues => "queues",
            Self::Failed => "failed",
        }
    }
}

/// One objection to one mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// Mode that the objection is to.
    pub mode: XdpMode,
    /// Reason as a label value.
    pub reason: Reason,
    /// Rest of a sentence that begins with "native XDP".
    pub(super) text: String,
    /// Attaching is possible, but changes the interface. `--xdp-changes accept` overrides it.
    pub(super) is_change: bool,
}

/// All objections to counting the ingress of an interface by XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// At least one, grouped by mode in the order in which modes were tried.
    objections: Vec<Objection>,
}

impl Refusal {
    /// A refusal with one objection that the user cannot override.
    pub(super) fn new(mode: XdpMode, reason: Reason, text: impl Into<String>) -> Self {
        Self::of(vec![Objection { mode, reason, text: text.into(), is_change: false }])
    }

    /// A refusal with these objections, grouped by mode.
    pub(super) const fn of(objections: Vec<Objection>) -> Self {
        Self { objections }
    }

    /// Reason for refusing the mode that was tried last.
    pub fn reason(&self) -> Reason {
        self.objections.last().map_or(Reason::Failed, |objection| objection.reason)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for Objection { mode, text, .. } in &self.objections {
            match before {
                Some(before) if before == *mode => write!(f, ", and {text}")?,
                Some(_) => write!(f, "; {} XDP {text}", mode.as_str())?,
                None => write!(f, "{} XDP {text}", mode.as_str())?,
            }
            before = Some(*mode);
        }
        let accepting_helps = [XdpMode::Native, XdpMode::Generic].iter().any(|mode| {
            let mut of_mode = self.objections.iter().filter(|it| it.mode == *mode).peekable();
            of_mode.peek().is_some() && of_mode.all(|it| it.is_change)
        });
        if accepting_helps { write!(f, " (--xdp-changes accept allows it)") } else { Ok(()) }
    }
}
