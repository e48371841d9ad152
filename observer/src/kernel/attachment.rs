//! On an interface, in its namespace, and off again.
//!
//! TCX (Linux 6.6) is a link that the daemon holds: first in the chain, off when it is closed, wherever that happens.
//! Everywhere else a filter is put on the interface's clsact qdisc; it must be taken off inside the namespace, and
//! the qdisc goes with it only if it was made for us, nobody else uses it, and no traffic would suffer.
//!
//! XDP is a link too. It counts ingress where the user wants it to and [`xdp`](super::xdp) has no objection.

use std::{io, os::fd::AsFd, sync::Arc};

use observer_ebpf::abi::Direction;

use super::{
    KernelError, Programs,
    clsact::{self, OurFilter, OwnQdisc},
    link::{Link, LinkType},
    preflight::KernelVersion,
    presence::{Evidence, Missing, Presence},
    syscall,
    xdp::{self, Refusal, XdpMode, XdpPlan},
};
use crate::{netlink::Netlink, netns::Netns};

/// How the programs are put on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX links.
    Tcx,
    /// Filters on a clsact qdisc, with this handle.
    Clsact {
        /// The same for every filter of one daemon, and different for two daemons on one host.
        handle: u16,
    },
}

impl Hook {
    /// The best that this kernel has.
    pub fn best(handle: u16) -> Self {
        if KernelVersion::running().at_least(6, 6) { Self::Tcx } else { Self::Clsact { handle } }
    }

    /// The value of the label `hook`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact { .. } => "clsact",
        }
    }
}

/// Where packets towards the task are counted: the values of the label `hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// At TC.
    Tc(Hook),
    /// By XDP.
    Xdp(XdpMode),
}

impl IngressHook {
    /// The value of the label `hook`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tc(hook) => hook.as_str(),
            Self::Xdp(XdpMode::Native) => "xdp_native",
            Self::Xdp(XdpMode::Generic) => "xdp_generic",
        }
    }
}

/// Programs on an interface.
#[derive(Debug)]
pub struct Attachment {
    /// Where it is; the path may change while the namespace lives.
    pub netns: Netns,
    ifindex: u32,
    hook: Hook,
    tc: [Option<Place>; 2],
    xdp: Option<(Arc<Link>, XdpMode)>,
    /// The qdisc under the filters was made for them.
    qdisc_is_ours: bool,
}

/// The place of a TC program.
#[derive(Debug)]
enum Place {
    Tcx(Arc<Link>),
    Filter(OurFilter),
}

/// `BPF_F_BEFORE` without a program to be before: first in the chain.
const FIRST: u32 = 1 << 3;

impl Attachment {
    /// Puts the programs on the interface with this index in `netns`.
    ///
    /// Where XDP was to count ingress and the kernel refuses it, TC does, and the refusal is returned with it.
    pub fn attach(
        programs: Programs,
        hook: Hook,
        netns: Netns,
        ifindex: u32,
    ) -> Result<(Self, Option<Refusal>), KernelError> {
        let mut attachment = Self { netns, ifindex, hook, tc: [None, None], xdp: None, qdisc_is_ours: false };
        let plan = programs.xdp();
        // With XDP alone, TC counts ingress only where that is refused.
        let behind_xdp = plan.is_none_or(|plan| plan.companion);
        let missing = Missing { tc: [behind_xdp, true], xdp: plan.is_some() };
        let refusal = attachment.mend(programs, missing)?;
        Ok((attachment, refusal))
    }

    /// Puts those programs on the interface that are missing. Where that fails, those that were put there go again.
    pub fn mend(&mut self, mut programs: Programs, missing: Missing) -> Result<Option<Refusal>, KernelError> {
        let netns = self.netns.clone();
        inside(&netns, || {
            let result = self.put(&mut programs, missing);
            if result.is_err()
                && let Ok(mut netlink) = Netlink::new()
            {
                self.remove(&mut netlink, missing.tc);
            }
            result
        })?
    }

    /// In the interface's namespace.
    fn put(&mut self, programs: &mut Programs, missing: Missing) -> Result<Option<Refusal>, KernelError> {
        let mut directions = missing.tc;
        let mut refusal = None;
        if let Some(XdpPlan { mode, companion }) = programs.xdp().filter(|_| missing.xdp) {
            self.xdp = None;
            // First the one that counts what has no mark: so nothing is missed and nothing counted twice.
            if companion {
                self.put_tc(programs, directions)?;
                directions = [false; 2];
            }
            match xdp::attach(programs, self.ifindex, mode) {
                Ok(link) => self.xdp = Some((Arc::new(link), mode)),
                Err(refused) => {
                    directions[Direction::Ingress as usize] |= !companion;
                    refusal = Some(refused);
                }
            }
        }
        self.put_tc(programs, directions)?;
        Ok(refusal)
    }

    fn put_tc(&mut self, programs: &mut Programs, directions: [bool; 2]) -> Result<(), KernelError> {
        // Each takes effect at once, but returns a grace period later only: and a new task speaks first, so egress does.
        let wanted = Direction::ALL.into_iter().rev().filter(|direction| directions[*direction as usize]);
        let ifindex = self.ifindex;
        let mut netlink = None;
        for direction in wanted {
            let name = programs.name(direction);
            let failed = |error: io::Error| match error.raw_os_error() {
                Some(libc::ENODEV) => KernelError::InterfaceGone(ifindex),
                _ => KernelError::call(format!("attaching {name}"), error),
            };
            let program = programs.get_mut(direction)?;
            let program = program.fd().map_err(|source| KernelError::Program {
                action: "attaching",
                program: name,
                source,
            })?;
            let program = program.as_fd();
            self.tc[direction as usize] = Some(match self.hook {
                Hook::Tcx => {
                    let kind = match direction {
                        Direction::Ingress => LinkType::TcxIngress,
                        Direction::Egress => LinkType::TcxEgress,
                    };
                    Place::Tcx(Arc::new(Link::create(program, ifindex, kind, FIRST).map_err(failed)?))
                }
                Hook::Clsact { handle } => {
                    let netlink = match &mut netlink {
                        Some(netlink) => netlink,
                        none => {
                            let mut socket = Netlink::new().map_err(failed)?;
                            self.qdisc_is_ours |= socket.add_clsact(ifindex).map_err(failed)?;
                            none.insert(socket)
                        }
                    };
                    let place = clsact::add_filter(netlink, (ifindex, direction, handle), program, name);
                    let place = place.map_err(failed)?;
                    Place::Filter(OurFilter { place, program: syscall::program_id(program)? })
                }
            });
        }
        Ok(())
    }

    /// Takes TC programs off, in the interface's namespace.
    fn remove(&mut self, netlink: &mut Netlink, directions: [bool; 2]) {
        for (place, remove) in self.tc.iter_mut().zip(directions) {
            // Closing a link is enough.
            if remove && let Some(Place::Filter(filter)) = place.take() {
                let _ = filter.remove(netlink);
            }
        }
    }

    /// Where packets towards the task are counted.
    pub fn ingress(&self) -> IngressHook {
        self.xdp.as_ref().map_or(IngressHook::Tc(self.hook), |(_, mode)| IngressHook::Xdp(*mode))
    }

    /// Shows whether the programs are there, from anywhere.
    pub fn presence(&self) -> Presence {
        let evidence = |place: &Option<Place>| {
            place.as_ref().map(|place| match place {
                Place::Tcx(link) => Evidence::Link(Arc::clone(link)),
                Place::Filter(filter) => Evidence::Program(filter.program),
            })
        };
        let xdp = self.xdp.as_ref().map(|(link, _)| Evidence::Link(Arc::clone(link)));
        Presence { tc: [evidence(&self.tc[0]), evidence(&self.tc[1])], xdp }
    }

    /// Looks which programs are missing, in the interface's namespace where only that tells: a program that somebody
    /// else holds too outlives its filter.
    pub fn missing(&self) -> Result<Missing, KernelError> {
        let mut missing = self.presence().missing()?;
        let looking =
            |error| KernelError::call(format!("listing the filters of interface {}", self.ifindex), error);
        if matches!(self.hook, Hook::Clsact { .. }) && !missing.any() {
            missing.tc = inside(&self.netns, || -> Result<_, KernelError> {
                let mut netlink = Netlink::new().map_err(looking)?;
                let mut missing = [false; 2];
                for (missing, place) in missing.iter_mut().zip(&self.tc) {
                    if let Some(Place::Filter(filter)) = place {
                        *missing = !filter.is_there(&mut netlink).map_err(looking)?;
                    }
                }
                Ok(missing)
            })??;
        }
        Ok(missing)
    }

    /// Takes XDP off, and lets TC count ingress to the end. Returns whether there is a packet that XDP may have counted
    /// and TC not: it is behind a grace period.
    pub fn detach_xdp(&mut self) -> bool {
        self.xdp.take().is_some()
    }

    /// Takes them off. The interface or its namespace being gone is no error.
    ///
    /// Returns the qdisc that was made for them, for [`remove_quiet`](super::clsact::remove_quiet).
    pub fn detach(self) -> Result<Option<OwnQdisc>, KernelError> {
        let Self { netns, ifindex, tc, qdisc_is_ours, .. } = self;
        let filters: Vec<_> = tc
            .into_iter()
            .flatten()
            .filter_map(|place| match place {
                // Closing the link is enough.
                Place::Tcx(_) => None,
                Place::Filter(filter) => Some(filter),
            })
            .collect();
        if filters.is_empty() {
            return Ok(None);
        }
        let removed = inside(&netns, || -> io::Result<()> {
            let mut netlink = Netlink::new()?;
            filters.iter().try_for_each(|filter| filter.remove(&mut netlink))
        });
        match removed {
            Err(KernelError::NamespaceGone { .. }) => return Ok(None),
            result => result?.map_err(|error| KernelError::call(format!("interface {ifindex}"), error))?,
        }
        Ok(qdisc_is_ours.then_some(OwnQdisc { netns, ifindex }))
    }
}

/// Runs in a namespace, which may be our own.
pub(super) fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
    netns.inside(work).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            KernelError::NamespaceGone { inode: netns.inode, path: netns.path.clone() }
        }
        _ => KernelError::call(format!("entering network namespace {}", netns.path.display()), error),
    })
}
