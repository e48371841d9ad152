//! Loaded programs of one interface.

use aya::{
    Ebpf,
    maps::{Map, MapData},
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use observer_ebpf::abi::{
    Direction,
    names::{self, Continuation},
};

use super::{
    KernelError,
    xdp::{XdpMode, XdpPlan, has_frags},
};

/// Loaded eBPF programs of one interface.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    xdp: Option<XdpPlan>,
}

impl Programs {
    /// Wraps a loaded object. Its programs are not loaded yet.
    pub(super) const fn new(ebpf: Ebpf, xdp: Option<XdpPlan>) -> Self {
        Self { ebpf, xdp }
    }

    /// Programs that these continue in by tail calls.
    pub(super) fn continuations(&self) -> Vec<Continuation> {
        let mut continuations = vec![names::UNUSUAL];
        if let Some(plan) = self.xdp {
            let frags = self.xdp_name() == names::OBSERVE_XDP_FRAGS;
            continuations.push(if frags { names::UNUSUAL_XDP_FRAGS } else { names::UNUSUAL_XDP });
            if plan.companion {
                continuations.push(names::SEGMENTS);
            }
        }
        continuations
    }

    /// Plan for counting ingress by XDP; `None` if TC counts it.
    pub fn xdp(&self) -> Option<XdpPlan> {
        self.xdp
    }

    /// Name of the TC program for one direction.
    pub(super) fn name(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Ingress if self.xdp.is_some_and(|plan| plan.companion) => {
                names::OBSERVE_BEHIND_XDP
            }
            Direction::Ingress => names::OBSERVE_INGRESS,
            Direction::Egress => names::OBSERVE_EGRESS,
        }
    }

    /// TC program for one direction.
    pub fn get_mut(&mut self, direction: Direction) -> Result<&mut SchedClassifier, KernelError> {
        self.classifier(self.name(direction))
    }

    /// Name of the XDP program for this kernel and mode.
    ///
    /// Generic mode does not use the multi-buffer program. For that program Linux 6.9 and later
    /// copy packets, and the copy loses the length of the link header (`skb_pp_cow_data`), so TC
    /// programs cannot find the header.
    pub(super) fn xdp_name(&self) -> &'static str {
        let generic = self.xdp.is_some_and(|plan| plan.mode == XdpMode::Generic);
        if !generic && has_frags() { names::OBSERVE_XDP_FRAGS } else { names::OBSERVE_XDP }
    }

    /// XDP program for this kernel and mode.
    pub fn xdp_mut(&mut self) -> Result<&mut Xdp, KernelError> {
        self.xdp_program(self.xdp_name())
    }

    /// XDP program with this name.
    pub fn xdp_program(&mut self, name: &'static str) -> Result<&mut Xdp, KernelError> {
        self.program(name)?.try_into().map_err(|_| KernelError::Missing { kind: "program", name })
    }

    /// TC program with this name.
    pub fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, KernelError> {
        self.program(name)?.try_into().map_err(|_| KernelError::Missing { kind: "program", name })
    }

    /// Program with this name.
    pub(super) fn program(&mut self, name: &'static str) -> Result<&mut Program, KernelError> {
        self.ebpf.program_mut(name).ok_or(KernelError::Missing { kind: "program", name })
    }

    /// Loads a TC or XDP program into the kernel.
    pub(super) fn load(&mut self, name: &'static str) -> Result<(), KernelError> {
        let result = match self.program(name)? {
            Program::Xdp(program) => program.load(),
            _ => self.classifier(name)?.load(),
        };
        result.map_err(|source| match source {
            ProgramError::LoadError { verifier_log, .. }
                if !verifier_log.to_string().is_empty() =>
            {
                KernelError::verifier(name, &verifier_log.to_string())
            }
            source => KernelError::Program { action: "loading", program: name, source },
        })
    }

    /// Closes the map descriptors, about twenty per interface. The kernel keeps the maps, because
    /// the programs use them.
    #[must_use]
    pub fn without_maps(mut self) -> Self {
        let names: Vec<String> = self.ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            drop(self.ebpf.take_map(&name));
        }
        self
    }

    /// Takes a map out of the object. Fails if it has another type than those used here.
    pub(super) fn take_map(&mut self, name: &'static str) -> Result<MapData, KernelError> {
        match self.ebpf.take_map(name) {
            Some(
                Map::Array(data)
                | Map::HashMap(data)
                | Map::RingBuf(data)
                | Map::ProgramArray(data),
            ) => Ok(data),
            _ => Err(KernelError::Missing { kind: "map", name }),
        }
    }

    /// Loaded object, for aya-log.
    pub(super) fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}
