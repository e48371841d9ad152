//! Filters on the clsact qdisc of an interface, used before Linux 6.6.
//!
//! Interfaces are those of the calling thread's namespace, unless a namespace is given.

use std::{io, os::fd::BorrowedFd, thread, time::Duration};

use observer_ebpf::abi::Direction;

use crate::linux::{
    netlink::{FilterId, Netlink, Side},
    netns::Netns,
};

/// Priorities to try; lower ones run earlier. The first priority is best, because an earlier filter
/// that ends the chain would hide its packets. The others are used if a classifier of another kind
/// has the first.
const PRIORITIES: [u16; 4] = [1, 2, 3, 4];

/// A filter of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnFilter {
    pub(super) id: FilterId,
    /// ID of its program. Only the filter keeps the program loaded, so both disappear together.
    pub(super) program: u32,
}

impl OwnFilter {
    /// Returns whether the filter is on the interface.
    pub(super) fn is_attached(&self, netlink: &mut Netlink) -> io::Result<bool> {
        let Self { id, program } = *self;
        let filters = match netlink.filters(id.ifindex, id.side) {
            // The interface has no clsact qdisc.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
            filters => filters?,
        };
        Ok(filters.iter().any(|it| {
            (it.priority, it.handle, it.program) == (id.priority, id.handle, Some(program))
        }))
    }

    /// Removes the filter. It is no error if it is gone.
    pub(super) fn remove(&self, netlink: &mut Netlink) -> io::Result<()> {
        match netlink.remove_filter(self.id) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// Side of the qdisc for a direction.
const fn side(direction: Direction) -> Side {
    match direction {
        Direction::Ingress => Side::Ingress,
        Direction::Egress => Side::Egress,
    }
}

/// Adds a filter to an interface that has a clsact qdisc.
pub(super) fn add_filter(
    netlink: &mut Netlink,
    (ifindex, direction, handle): (u32, Direction, u16),
    program: BorrowedFd<'_>,
    name: &str,
) -> io::Result<FilterId> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for priority in PRIORITIES {
        let id = FilterId { ifindex, side: side(direction), priority, handle: handle.into() };
        let added = match netlink.set_filter(id, program, name, false) {
            // An earlier run of this daemon left a filter, which is replaced.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                netlink.set_filter(id, program, name, true)
            }
            added => added,
        };
        match added {
            Ok(()) => return Ok(id),
            // A classifier of another kind uses the priority.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Removes all filters with this handle from an interface: those of an earlier run.
pub fn remove_filters(netns: &Netns, ifindex: u32, handle: u16) -> io::Result<()> {
    netns.inside(|| {
        let mut netlink = Netlink::new()?;
        for side in [Side::Ingress, Side::Egress] {
            for filter in netlink.filters(ifindex, side).unwrap_or_default() {
                if filter.handle == u32::from(handle) && filter.program.is_some() {
                    let (priority, handle) = (filter.priority, filter.handle);
                    netlink.remove_filter(FilterId { ifindex, side, priority, handle })?;
                }
            }
        }
        Ok(())
    })?
}

/// A clsact qdisc that the daemon created.
#[derive(Debug)]
pub struct OwnQdisc {
    pub(super) netns: Netns,
    pub(super) ifindex: u32,
}

/// Time without traffic after which an interface counts as quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Removes qdiscs from quiet interfaces, unless the qdisc has other filters.
///
/// Removing a qdisc stops the queues of the interface for some milliseconds (`qdisc_graft` calls
/// `dev_deactivate`), and packets sent meanwhile are dropped (measured: one datagram of a busy
/// exchange, every time). So an interface with traffic keeps its qdisc, which does nothing without
/// filters.
pub fn remove_quiet(qdiscs: &[OwnQdisc]) {
    let frames = |qdisc: &OwnQdisc| {
        let read = || Netlink::new()?.counters(qdisc.ifindex).map(|it| it.frames);
        qdisc.netns.inside(read).ok().and_then(Result::ok)
    };
    // An interface that cannot be read is gone, together with its qdisc.
    let existing: Vec<_> =
        qdiscs.iter().filter_map(|qdisc| Some((qdisc, frames(qdisc)?))).collect();
    if existing.is_empty() {
        return;
    }
    thread::sleep(QUIET);
    for (qdisc, before) in existing {
        let remove = || {
            let mut netlink = Netlink::new()?;
            if netlink.has_tc_filters(qdisc.ifindex)? {
                Ok(())
            } else {
                netlink.remove_clsact(qdisc.ifindex)
            }
        };
        if frames(qdisc) == Some(before) {
            let _: Result<Result<(), io::Error>, io::Error> = qdisc.netns.inside(remove);
        }
    }
}
