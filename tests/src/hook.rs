//! Hooks that scenarios run with. A scenario that chooses no hook uses the one in
//! `OBSERVER_TEST_HOOK`, so that every hook is held to the same sums.

use std::env;

use anyhow::{Context as _, Result};

/// The hook at which the daemon under test counts ingress traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TC in both directions.
    Tc,
    /// XDP in the driver; TC behind it and on egress.
    XdpNative,
    /// Generic XDP; TC behind it and on egress.
    XdpGeneric,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 3] = [Self::Tc, Self::XdpNative, Self::XdpGeneric];

    /// The XDP hooks.
    pub const XDP: [Self; 2] = [Self::XdpNative, Self::XdpGeneric];

    /// Its name in the variable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The value of `--xdp-mode` and the label `hook` of an interface; `None` for TC, whose label
    /// varies.
    pub const fn xdp(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Tc => None,
            Self::XdpNative => Some(("native", "xdp_native")),
            Self::XdpGeneric => Some(("generic", "xdp_generic")),
        }
    }

    /// The hook of this run: the one in the variable, or TC.
    pub fn under_test() -> Result<Self> {
        const VARIABLE: &str = "OBSERVER_TEST_HOOK";
        let Ok(name) = env::var(VARIABLE) else { return Ok(Self::Tc) };
        let known = Self::ALL.into_iter().find(|hook| hook.as_str() == name);
        known.with_context(|| {
            format!("{VARIABLE}={name}: there are {:?}", Self::ALL.map(Self::as_str))
        })
    }
}
