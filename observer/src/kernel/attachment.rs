//! Attaching programs to an interface inside its namespace, and detaching them.
//!
//! Since Linux 6.6 the TC programs are attached by TCX links, first in the chain. Closing a link in
//! any namespace detaches its program. Older kernels get filters on the interface's clsact qdisc.
//! Filters must be removed inside the namespace. The qdisc is removed only if the daemon created
//! it, nothing else uses it, and no traffic would suffer.
//!
//! Links are pinned: see [`link`](super::link). The programs of an earlier run are replaced in place,
//! and an interface keeps its number, so that no packet is lost or counted twice.
//!
//! XDP uses a link too. It counts ingress if the user wants it and [`xdp`](super::xdp) has no
//! objection.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use observer_ebpf::abi::Direction;

use super::{
    KernelError, Programs,
    clsact::{self, OwnFilter, OwnQdisc},
    link::{Link, LinkType},
    namespace::inside,
    pins::LinkPins,
    preflight::KernelVersion,
    presence::{Evidence, Missing, Presence},
    syscall,
    xdp::{self, Refusal, XdpMode, XdpPlan},
};
use crate::linux::{netlink::Netlink, netns::Netns};

/// Way of attaching TC programs to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX links.
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact {
        /// Handle of every filter of this daemon. Other daemons on the host use other handles.
        handle: u16,
    },
}

impl Hook {
    /// TCX if this kernel supports it, otherwise this way.
    #[must_use]
    pub fn or_better(self) -> Self {
        if KernelVersion::running().at_least(6, 6) { Self::Tcx } else { self }
    }

    /// Value of the label `hook`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact { .. } => "clsact",
        }
    }
}

/// Hook that counts packets towards the task: values of the label `hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// TC.
    Tc(Hook),
    /// XDP.
    Xdp(XdpMode),
}

impl IngressHook {
    /// Value of the label `hook`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tc(hook) => hook.as_str(),
            Self::Xdp(XdpMode::Native) => "xdp_native",
            Self::Xdp(XdpMode::Generic) => "xdp_generic",
        }
    }
}

/// Programs attached to an interface.
#[derive(Debug)]
pub struct Attachment {
    /// Namespace of the interface. Its path may change while it exists.
    pub netns: Netns,
    ifindex: u32,
    hook: Hook,
    /// By direction.
    tc: [Option<TcProgram>; 2],
    xdp: Option<(Arc<Link>, XdpMode)>,
    /// The daemon created the qdisc of the filters.
    qdisc_is_ours: bool,
    pins: LinkPins,
}

/// An attached TC program.
#[derive(Debug)]
enum TcProgram {
    Tcx(Arc<Link>),
    Filter(OwnFilter),
}

/// `BPF_F_BEFORE` without another program: first in the chain.
const FIRST: u32 = 1 << 3;

impl Attachment {
    /// Attaches the programs to the interface with this index in `netns`.
    ///
    /// If the kernel refuses XDP, TC counts ingress instead, and the refusal is returned too.
    pub fn attach(
        programs: Programs,
        hook: Hook,
        (netns, ifindex): (Netns, u32),
        pins: LinkPins,
    ) -> Result<(Self, Option<Refusal>), KernelError> {
        let (tc, xdp, qdisc_is_ours) = ([None, None], None, false);
        let mut attachment = Self { netns, ifindex, hook, tc, xdp, qdisc_is_ours, pins };
        let plan = programs.xdp();
        attachment.pins.prepare(&attachment.netns, (ifindex, hook == Hook::Tcx), plan);
        // If the plan needs no companion, TC counts ingress only if XDP is refused.
        let tc_ingress = plan.is_none_or(|plan| plan.companion);
        let missing = Missing { tc: [tc_ingress, true], xdp: plan.is_some() };
        let refusal = attachment.attach_missing(programs, missing)?;
        Ok((attachment, refusal))
    }

    /// Attaches the missing programs. If one fails, those attached by this call are detached again.
    pub fn attach_missing(
        &mut self,
        mut programs: Programs,
        missing: Missing,
    ) -> Result<Option<Refusal>, KernelError> {
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

    /// Attaches the missing programs. The calling thread is in the interface's namespace.
    fn put(
        &mut self,
        programs: &mut Programs,
        missing: Missing,
    ) -> Result<Option<Refusal>, KernelError> {
        let mut directions = missing.tc;
        let mut refusal = None;
        if let Some(XdpPlan { mode, companion }) = programs.xdp().filter(|_| missing.xdp) {
            self.drop_xdp();
            // The companion counts packets without a mark. Attached first, it misses none while XDP
            // is added, and counts none twice.
            if companion {
                self.put_tc(programs, directions)?;
                directions = [false; 2];
            }
            match xdp::attach(programs, self.ifindex, mode, &self.pins.xdp(mode)) {
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

    /// Attaches the TC programs of these directions.
    fn put_tc(
        &mut self,
        programs: &mut Programs,
        directions: [bool; 2],
    ) -> Result<(), KernelError> {
        // Attaching takes effect at once but returns only after a grace period. A new task sends
        // before it receives, so egress comes first.
        let wanted =
            Direction::ALL.into_iter().rev().filter(|direction| directions[*direction as usize]);
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
                Hook::Tcx => TcProgram::Tcx(Arc::new(
                    put_link(program, ifindex, direction, &self.pins.tc(direction))
                        .map_err(failed)?,
                )),
                Hook::Clsact { handle } => {
                    let netlink = match &mut netlink {
                        Some(netlink) => netlink,
                        none => {
                            let mut socket = Netlink::new().map_err(failed)?;
                            let added = socket.add_clsact(ifindex).map_err(failed)?;
                            self.qdisc_is_ours |= self.pins.put_filters(added);
                            none.insert(socket)
                        }
                    };
                    let id =
                        clsact::add_filter(netlink, (ifindex, direction, handle), program, name);
                    let id = id.map_err(failed)?;
                    TcProgram::Filter(OwnFilter { id, program: syscall::program_id(program)? })
                }
            });
        }
        Ok(())
    }

    /// Detaches TC programs. The calling thread is in the interface's namespace.
    fn remove(&mut self, netlink: &mut Netlink, directions: [bool; 2]) {
        for (program, remove) in self.tc.iter_mut().zip(directions) {
            match program.take_if(|_| remove) {
                Some(TcProgram::Filter(filter)) => drop(filter.remove(netlink)),
                // Dropping a link detaches its program.
                Some(TcProgram::Tcx(link)) => link.unpin(),
                None => {}
            }
        }
    }

    /// Detaches XDP. Returns whether it was attached.
    fn drop_xdp(&mut self) -> bool {
        self.xdp.take().is_some_and(|(link, _)| {
            link.unpin();
            true
        })
    }

    /// Hook that counts packets towards the task.
    pub fn ingress(&self) -> IngressHook {
        self.xdp.as_ref().map_or(IngressHook::Tc(self.hook), |(_, mode)| IngressHook::Xdp(*mode))
    }

    /// Handle for checking from any namespace whether the programs are attached.
    pub fn presence(&self) -> Presence {
        let evidence = |program: &Option<TcProgram>| {
            program.as_ref().map(|program| match program {
                TcProgram::Tcx(link) => Evidence::Link(Arc::clone(link)),
                TcProgram::Filter(filter) => Evidence::Program(filter.program),
            })
        };
        let xdp = self.xdp.as_ref().map(|(link, _)| Evidence::Link(Arc::clone(link)));
        Presence { tc: [evidence(&self.tc[0]), evidence(&self.tc[1])], xdp }
    }

    /// Lists the programs that are no longer attached.
    ///
    /// Filters are listed inside the namespace, because a program that another process holds
    /// outlives its filter.
    pub fn missing(&self) -> Result<Missing, KernelError> {
        let mut missing = self.presence().missing()?;
        let failed = |error| {
            KernelError::call(format!("listing the filters of interface {}", self.ifindex), error)
        };
        if matches!(self.hook, Hook::Clsact { .. }) && !missing.any() {
            missing.tc = inside(&self.netns, || -> Result<_, KernelError> {
                let mut netlink = Netlink::new().map_err(failed)?;
                let mut missing = [false; 2];
                for (missing, program) in missing.iter_mut().zip(&self.tc) {
                    if let Some(TcProgram::Filter(filter)) = program {
                        *missing = !filter.is_attached(&mut netlink).map_err(failed)?;
                    }
                }
                Ok(missing)
            })??;
        }
        Ok(missing)
    }

    /// Detaches XDP; TC counts ingress from now on. Returns whether XDP was attached. Then, until a
    /// grace period has passed, there may be packets that XDP has counted and TC has not seen yet.
    pub fn detach_xdp(&mut self) -> bool {
        self.drop_xdp()
    }

    /// Detaches the programs. It is no error if the interface or its namespace is gone.
    ///
    /// Returns the qdisc if the daemon created it, for
    /// [`remove_quiet`](super::clsact::remove_quiet).
    pub fn detach(mut self) -> Result<Option<OwnQdisc>, KernelError> {
        self.drop_xdp();
        let Self { netns, ifindex, tc, qdisc_is_ours, pins, .. } = self;
        let filters: Vec<_> = tc
            .into_iter()
            .flatten()
            .filter_map(|program| match program {
                // Dropping a link detaches its program.
                TcProgram::Tcx(link) => {
                    link.unpin();
                    None
                }
                TcProgram::Filter(filter) => Some(filter),
            })
            .collect();
        pins.remove();
        if filters.is_empty() {
            return Ok(None);
        }
        let removed = inside(&netns, || -> io::Result<()> {
            let mut netlink = Netlink::new()?;
            filters.iter().try_for_each(|filter| filter.remove(&mut netlink))
        });
        match removed {
            Err(KernelError::NamespaceGone { .. }) => return Ok(None),
            result => {
                result?
                    .map_err(|error| KernelError::call(format!("interface {ifindex}"), error))?;
            }
        }
        Ok(qdisc_is_ours.then_some(OwnQdisc { netns, ifindex }))
    }
}

/// Attaches a TC program by a link, in place of the program of an earlier run if there is one.
fn put_link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    direction: Direction,
    pin: &Path,
) -> io::Result<Link> {
    if let Some(link) = Link::replace(program, ifindex, pin) {
        return Ok(link);
    }
    let kind = match direction {
        Direction::Ingress => LinkType::TcxIngress,
        Direction::Egress => LinkType::TcxEgress,
    };
    let mut link = Link::create(program, ifindex, kind, FIRST)?;
    link.pin(pin)?;
    Ok(link)
}
