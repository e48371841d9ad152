//! On an interface, in its namespace, and off again.
//!
//! TCX (Linux 6.6) is a link that the daemon holds: first in the chain, off when it is closed, wherever that happens.
//! Everywhere else a filter is put on the interface's clsact qdisc; it must be taken off inside the namespace, and
//! the qdisc goes with it only if it was made for us, nobody else uses it, and no traffic would suffer.
//!
//! XDP is a link too. It counts ingress where the user wants it to and [`xdp`](super::xdp) has no objection.

use std::{io, os::fd::OwnedFd, thread, time::Duration};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};
use observer_ebpf::abi::Direction;

use super::{
    KernelError, Programs,
    preflight::KernelVersion,
    xdp::{self, Refusal, XdpMode, XdpPlan},
};
use crate::{ethtool, netlink::Netlink, netns::Netns};

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
    how: How,
    xdp: Option<(OwnedFd, XdpMode)>,
    hook: Hook,
}

#[derive(Debug)]
enum How {
    Tcx { _links: Vec<SchedClassifierLink> },
    Clsact { handle: u16, priorities: [u16; 2], qdisc_is_ours: bool },
}

/// Lower runs earlier. First, because a filter in front of us that ends the chain would hide its packets; the next
/// ones, where another kind of classifier holds the first.
const PRIORITIES: [u16; 4] = [1, 2, 3, 4];

impl Attachment {
    /// Puts the programs on the interface with this index in `netns`.
    ///
    /// Where XDP was to count ingress and the kernel refuses it, TC does, and the refusal is returned with it.
    pub fn attach(
        mut programs: Programs,
        hook: Hook,
        netns: Netns,
        ifindex: u32,
    ) -> Result<(Self, Option<Refusal>), KernelError> {
        let (how, xdp) = inside(&netns, || -> Result<_, KernelError> {
            let attach_tc = |programs: &mut Programs, directions: &[Direction]| match hook {
                Hook::Tcx => attach_tcx(programs, ifindex, directions),
                Hook::Clsact { handle } => attach_clsact(programs, ifindex, handle, directions),
            };
            Ok(match programs.xdp() {
                None => (attach_tc(&mut programs, &Direction::ALL)?, None),
                // First the one that counts what has no mark: so nothing is missed and nothing counted twice.
                Some(XdpPlan { mode, companion: true }) => {
                    let how = attach_tc(&mut programs, &Direction::ALL)?;
                    (how, Some((xdp::attach(&mut programs, ifindex, mode), mode)))
                }
                Some(XdpPlan { mode, companion: false }) => {
                    let link = xdp::attach(&mut programs, ifindex, mode);
                    let directions = if link.is_ok() { &Direction::ALL[1..] } else { &Direction::ALL[..] };
                    (attach_tc(&mut programs, directions)?, Some((link, mode)))
                }
            })
        })??;
        let (xdp, refusal) = match xdp {
            None => (None, None),
            Some((Ok(link), mode)) => (Some((link, mode)), None),
            Some((Err(refusal), _)) => (None, Some(refusal)),
        };
        Ok((Self { netns, ifindex, how, xdp, hook }, refusal))
    }

    /// Where packets towards the task are counted.
    pub fn ingress(&self) -> IngressHook {
        self.xdp.as_ref().map_or(IngressHook::Tc(self.hook), |(_, mode)| IngressHook::Xdp(*mode))
    }

    /// Takes XDP off, and lets TC count ingress to the end. Returns whether there is a packet that XDP may have counted
    /// and TC not: it is behind a grace period.
    pub fn detach_xdp(&mut self) -> bool {
        self.xdp.take().is_some()
    }

    /// Takes them off. The interface or its namespace being gone is no error.
    ///
    /// Returns the qdisc that was made for them, for [`remove_quiet`].
    pub fn detach(self) -> Result<Option<OwnQdisc>, KernelError> {
        match self.how {
            // Closing the links is enough.
            How::Tcx { .. } => Ok(None),
            How::Clsact { handle, priorities, qdisc_is_ours } => {
                match inside(&self.netns, || detach_filters(self.ifindex, handle, priorities)) {
                    Err(KernelError::NamespaceGone { .. }) => return Ok(None),
                    result => result??,
                }
                Ok(qdisc_is_ours.then_some(OwnQdisc { netns: self.netns, ifindex: self.ifindex }))
            }
        }
    }
}

/// A clsact qdisc that was made for our filters.
#[derive(Debug)]
pub struct OwnQdisc {
    netns: Netns,
    ifindex: u32,
}

/// An interface that carries nothing for so long is quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Removes qdiscs from interfaces that are quiet, where nobody else uses them.
///
/// Removing one stops the interface's queues for some milliseconds, and what the task sends then is dropped (measured:
/// a datagram of a busy exchange, every time; `qdisc_graft` calls `dev_deactivate`). So where there is traffic it
/// stays: without filters it does nothing.
pub fn remove_quiet(qdiscs: &[OwnQdisc]) {
    let frames = |qdisc: &OwnQdisc| {
        let read = || Netlink::new()?.counters(qdisc.ifindex).map(|it| it.frames);
        qdisc.netns.inside(read).ok().and_then(Result::ok)
    };
    // An interface that cannot be read is gone, and its qdisc with it.
    let live: Vec<_> = qdiscs.iter().filter_map(|qdisc| Some((qdisc, frames(qdisc)?))).collect();
    if live.is_empty() {
        return;
    }
    thread::sleep(QUIET);
    for (qdisc, before) in live {
        let remove = || {
            let mut netlink = Netlink::new()?;
            if netlink.has_tc_filters(qdisc.ifindex)? { Ok(()) } else { netlink.remove_clsact(qdisc.ifindex) }
        };
        if frames(qdisc) == Some(before) {
            let _: Result<Result<(), io::Error>, io::Error> = qdisc.netns.inside(remove);
        }
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

const fn side(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}

/// aya wants names; this is the name at this moment.
fn name_of(ifindex: u32) -> Result<String, KernelError> {
    ethtool::name(ifindex).map_err(|_| KernelError::InterfaceGone(ifindex))
}

/// Attaches under the interface's current name, and once more should it be renamed in between.
fn attach_one(
    program: &mut SchedClassifier,
    ifindex: u32,
    direction: Direction,
    options: impl Fn() -> TcAttachOptions,
) -> Result<SchedClassifierLink, ProgramError> {
    let io = |error: KernelError| ProgramError::IOError(io::Error::other(error));
    loop {
        let name = name_of(ifindex).map_err(io)?;
        let id = program.attach_with_options(&name, side(direction), options())?;
        let link = program.take_link(id)?;
        if name_of(ifindex).map_err(io)? == name {
            return Ok(link);
        }
        drop(link);
    }
}

fn attach_tcx(programs: &mut Programs, ifindex: u32, directions: &[Direction]) -> Result<How, KernelError> {
    let attach = |&direction: &Direction| {
        let name = programs.name(direction);
        attach_one(programs.get_mut(direction)?, ifindex, direction, || {
            TcAttachOptions::TcxOrder(LinkOrder::first())
        })
        .map_err(|source| failed("attaching", name, source))
    };
    // Each takes effect at once, but returns a grace period later only: and a new task speaks first, so egress does.
    Ok(How::Tcx { _links: directions.iter().rev().map(attach).collect::<Result<_, _>>()? })
}

fn attach_clsact(
    programs: &mut Programs,
    ifindex: u32,
    handle: u16,
    directions: &[Direction],
) -> Result<How, KernelError> {
    let qdisc_is_ours = match qdisc_add_clsact(&name_of(ifindex)?) {
        Ok(()) => true,
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => false,
        Err(error) => {
            let name = programs.name(Direction::Ingress);
            return Err(failed("adding the clsact qdisc for", name, error.into()));
        }
    };
    let mut priorities = [0; 2];
    for &direction in directions {
        let name = programs.name(direction);
        match attach_filter(programs.get_mut(direction)?, ifindex, direction, handle) {
            Ok(priority) => priorities[direction as usize] = priority,
            Err(source) => {
                // Leave nothing half done.
                let _ = detach_filters(ifindex, handle, priorities);
                return Err(failed("attaching", name, source));
            }
        }
    }
    Ok(How::Clsact { handle, priorities, qdisc_is_ours })
}

fn attach_filter(
    program: &mut SchedClassifier,
    ifindex: u32,
    direction: Direction,
    handle: u16,
) -> Result<u16, ProgramError> {
    let mut last = ProgramError::NotAttached;
    for priority in PRIORITIES {
        let options =
            || TcAttachOptions::Netlink(NlOptions { priority, handle: tc_handle(handle), classid: None });
        let link = match attach_one(program, ifindex, direction, options) {
            // A filter that an earlier run of this daemon left behind: replaced in place.
            Err(ProgramError::TcError(TcError::NetlinkError(error)))
                if error.raw_os_error() == Some(libc::EEXIST) =>
            {
                let name =
                    name_of(ifindex).map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
                let old =
                    SchedClassifierLink::attached(&name, side(direction), priority, tc_handle(handle), None)?;
                let id = program.attach_to_link(old)?;
                program.take_link(id)?
            }
            Err(ProgramError::TcError(TcError::NetlinkError(error)))
                if error.raw_os_error() == Some(libc::EINVAL) =>
            {
                // The priority belongs to a classifier of another kind.
                last = ProgramError::TcError(TcError::NetlinkError(error));
                continue;
            }
            result => result?,
        };
        // aya's link detaches in the namespace of the thread that drops it, which may be another one then.
        std::mem::forget(link);
        return Ok(priority);
    }
    Err(last)
}

fn detach_filters(ifindex: u32, handle: u16, priorities: [u16; 2]) -> Result<(), KernelError> {
    let Ok(name) = name_of(ifindex) else { return Ok(()) };
    for direction in Direction::ALL {
        let priority = priorities[direction as usize];
        if priority != 0 {
            let link =
                SchedClassifierLink::attached(&name, side(direction), priority, tc_handle(handle), None)
                    .map_err(|error| KernelError::call(format!("interface {name}"), error))?;
            // Drop detaches, and its only errors are that the filter or the interface is gone.
            drop(link);
        }
    }
    Ok(())
}

const fn tc_handle(handle: u16) -> TcHandle {
    TcHandle::new(0, handle)
}

fn failed(action: &'static str, program: &'static str, source: ProgramError) -> KernelError {
    KernelError::Program { action, program, source }
}
