//! Filters on the clsact qdisc of an interface, which is where programs hang before Linux 6.6.
//!
//! Everything here is about the namespace of the calling thread, unless it names one.

use std::{io, os::fd::BorrowedFd, thread, time::Duration};

use observer_ebpf::abi::Direction;

use crate::{
    netlink::{FilterPlace, Netlink, Side},
    netns::Netns,
};

/// Lower runs earlier. First, because a filter in front of us that ends the chain would hide its packets; the next
/// ones, where another kind of classifier holds the first.
const PRIORITIES: [u16; 4] = [1, 2, 3, 4];

/// A filter of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OurFilter {
    pub(super) place: FilterPlace,
    /// The id of its program. Nobody but the filter holds it, so it is gone when the filter is.
    pub(super) program: u32,
}

impl OurFilter {
    /// Whether it is on the interface.
    pub(super) fn is_there(&self, netlink: &mut Netlink) -> io::Result<bool> {
        let Self { place, program } = *self;
        let filters = match netlink.filters(place.ifindex, place.side) {
            // The kernel's answer where there is no such qdisc.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
            filters => filters?,
        };
        Ok(filters
            .iter()
            .any(|it| (it.priority, it.handle, it.program) == (place.priority, place.handle, Some(program))))
    }

    /// Takes it off. Being gone is no error.
    pub(super) fn remove(&self, netlink: &mut Netlink) -> io::Result<()> {
        match netlink.remove_filter(self.place) {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

pub(super) const fn side(direction: Direction) -> Side {
    match direction {
        Direction::Ingress => Side::Ingress,
        Direction::Egress => Side::Egress,
    }
}

/// Puts a program on one side of an interface that has a clsact qdisc, and returns the place.
pub(super) fn add_filter(
    netlink: &mut Netlink,
    (ifindex, direction, handle): (u32, Direction, u16),
    program: BorrowedFd<'_>,
    name: &str,
) -> io::Result<FilterPlace> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for priority in PRIORITIES {
        let place = FilterPlace { ifindex, side: side(direction), priority, handle: handle.into() };
        let added = match netlink.set_filter(place, program, name, false) {
            // A filter that an earlier run of this daemon left behind: replaced in place.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                netlink.set_filter(place, program, name, true)
            }
            added => added,
        };
        match added {
            Ok(()) => return Ok(place),
            // The priority belongs to a classifier of another kind.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// A clsact qdisc that was made for our filters.
#[derive(Debug)]
pub struct OwnQdisc {
    pub(super) netns: Netns,
    pub(super) ifindex: u32,
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
