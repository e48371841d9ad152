//! The hooks that a scenario can be run with. Those that say nothing of a hook run with the one of the variable
//! `OBSERVER_TEST_HOOK`, so that the same sums are asked of every hook.

use std::env;

use anyhow::{Context as _, Result};

/// Where the daemon under test counts what goes to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TC, both ways.
    Tc,
    /// XDP in the driver, TC behind it and on egress.
    XdpNative,
    /// XDP in front of the stack, TC behind it and on egress.
    XdpGeneric,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tc, Self::XdpNative, Self::XdpGeneric];

    /// By XDP.
    pub const XDP: [Self; 2] = [Self::XdpNative, Self::XdpGeneric];

    /// The name in the variable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The value of `--xdp-mode`, and the label `hook` of an interface; `None` for TC, which has several.
    pub const fn xdp(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tc => None,
            Self::XdpNative => Some(("native", "xdp_native")),
            Self::XdpGeneric => Some(("generic", "xdp_generic")),
        }
    }

    /// The one that this run is about: TC unless the variable says otherwise.
    pub fn under_test() -> Result<Self> {
        const VARIABLE: &str = "OBSERVER_TEST_HOOK";
        let Ok(name) = env::var(VARIABLE) else { return Ok(Self::Tc) };
        let known = Self::ALL.into_iter().find(|hook| hook.as_str() == name);
        known.with_context(|| format!("{VARIABLE}={name}: there are {:?}", Self::ALL.map(Self::as_str)))
    }
}
