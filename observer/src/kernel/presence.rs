//! Whether the programs are still on an interface: seen without entering its namespace.

use std::sync::Arc;

use observer_ebpf::abi::Direction;

use super::{KernelError, link::Link, syscall};

/// The programs of an interface, by what shows that they are there.
#[derive(Clone, Debug)]
pub struct Presence {
    pub(super) tc: [Option<Evidence>; 2],
    pub(super) xdp: Option<Evidence>,
}

/// Shows that a program is on an interface.
#[derive(Clone, Debug)]
pub(super) enum Evidence {
    /// The link of TCX or XDP.
    Link(Arc<Link>),
    /// The id of a program that a filter alone holds.
    Program(u32),
}

impl Evidence {
    fn is_there(&self) -> Result<bool, KernelError> {
        match self {
            Self::Link(link) => link.is_there(),
            Self::Program(id) => syscall::is_loaded(*id),
        }
    }
}

/// Programs that are gone from an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Those of TC, by direction.
    pub tc: [bool; 2],
    /// That of XDP.
    pub xdp: bool,
}

impl Missing {
    /// Whether anything is.
    pub fn any(self) -> bool {
        self.xdp || self.tc.contains(&true)
    }
}

impl Presence {
    /// Looks which programs are gone.
    pub fn missing(&self) -> Result<Missing, KernelError> {
        let gone = |evidence: &Option<Evidence>| {
            evidence.as_ref().map_or(Ok(false), |it| it.is_there().map(|is| !is))
        };
        let mut missing = Missing { xdp: gone(&self.xdp)?, ..Missing::default() };
        for direction in Direction::ALL {
            missing.tc[direction as usize] = gone(&self.tc[direction as usize])?;
        }
        Ok(missing)
    }
}
