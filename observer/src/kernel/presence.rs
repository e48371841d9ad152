//! Checking that programs are still attached, without entering the namespace of their interface.

use std::sync::Arc;

use observer_ebpf::abi::Direction;

use super::{KernelError, link::Link, syscall};

/// Handle for checking that the programs of an interface are attached.
#[derive(Clone, Debug)]
pub struct Presence {
    pub(super) tc: [Option<Evidence>; 2],
    pub(super) xdp: Option<Evidence>,
}

/// Evidence that a program is attached.
#[derive(Clone, Debug)]
pub(super) enum Evidence {
    /// TCX or XDP link.
    Link(Arc<Link>),
    /// ID of a program that only its filter keeps loaded.
    Program(u32),
}

impl Evidence {
    fn is_attached(&self) -> Result<bool, KernelError> {
        match self {
            Self::Link(link) => link.is_attached(),
            Self::Program(id) => syscall::is_loaded(*id),
        }
    }
}

/// Programs that are no longer attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// TC programs, by direction.
    pub tc: [bool; 2],
    /// The XDP program.
    pub xdp: bool,
}

impl Missing {
    /// Returns whether any program is missing.
    pub fn any(self) -> bool {
        self.xdp || self.tc.contains(&true)
    }
}

impl Presence {
    /// Lists the programs that are no longer attached.
    pub fn missing(&self) -> Result<Missing, KernelError> {
        let gone = |evidence: &Option<Evidence>| {
            evidence.as_ref().map_or(Ok(false), |it| it.is_attached().map(|is| !is))
        };
        let mut missing = Missing { xdp: gone(&self.xdp)?, ..Missing::default() };
        for direction in Direction::ALL {
            missing.tc[direction as usize] = gone(&self.tc[direction as usize])?;
        }
        Ok(missing)
    }
}
