use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    BUFFER, Link, NetnsId,
    message::{Message, Messages},
    netns_id_in, tc,
    unread::{self, Kind},
};

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_TC,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_NSID,
];

/// What the kernel tells unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change in a namespace; `None` is our own.
    Change(Option<NetnsId>, Change),
    /// Events were lost: everything must be listed again.
    Overrun,
}

/// A change in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its interfaces or their addresses have changed, or something of them that could not be understood.
    Interfaces,
    /// An interface has left it.
    LinkGone(Box<Link>),
    /// The namespace with this id is gone. Each namespace tells of its own ids.
    NetnsGone(NetnsId),
    /// A qdisc or a filter of the interface with this index is gone.
    HooksGone(u32),
}

/// Events of every namespace that has an id for ours, on one socket in ours.
///
/// A socket inside another namespace would keep that namespace alive.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Listens to links, qdiscs, filters, addresses and namespace ids. Needs `CAP_NET_BROADCAST`.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_listen_all_namespaces(true)?;
        // A thousand tasks may start at once; the kernel caps the request at net.core.rmem_max.
        socket.set_rx_buf_sz(4_u32 << 20)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// What has come since the last call; does not wait.
    pub fn pending(&mut self) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            match receive(self.socket.as_fd(), &mut self.buffer) {
                Ok((len, netns)) => take(&self.buffer[..len], netns, &mut events),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(events),
                    Some(libc::ENOBUFS) => events.push(Event::Overrun),
                    Some(libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn take(datagram: &[u8], netns: Option<NetnsId>, events: &mut Vec<Event>) {
    for message in Messages::of(datagram) {
        let change = if let Ok(message) = message {
            change(message)
        } else {
            unread::count(Kind::Datagram, datagram);
            Some(Change::Interfaces)
        };
        events.extend(change.map(|change| Event::Change(netns, change)));
    }
}

/// What cannot be understood is a change all the same: the namespace is listed anew.
fn change(message: Message<'_>) -> Option<Change> {
    match message.kind {
        libc::RTM_DELLINK => match Link::read(message.payload) {
            // A port that leaves a bridge is told in the same way, for another family.
            Some(link) if i32::from(link.family) == libc::AF_UNSPEC => Some(Change::LinkGone(Box::new(link))),
            _ => Some(Change::Interfaces),
        },
        libc::RTM_NEWLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Change::Interfaces),
        // Whether frames queue on the interface may have changed.
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC if tc::is_root(message.payload) => Some(Change::Interfaces),
        libc::RTM_DELQDISC | libc::RTM_DELTFILTER => {
            Some(tc::interface_of(message.payload).map_or(Change::Interfaces, Change::HooksGone))
        }
        libc::RTM_DELNSID => netns_id_in(message.payload).map(Change::NetnsGone),
        _ => None,
    }
}

/// One datagram and the id of the namespace that it comes from.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<NetnsId>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = [0_u64; 8];
    // SAFETY: a `msghdr` of zeros is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr().cast();
    header.msg_iovlen = parts.len();
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header points to memory that lives through the call.
    let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, 0) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut netns = None;
    // SAFETY: the macros walk the control messages that the kernel wrote within `msg_controllen`.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_NETLINK
                && (*message).cmsg_type == libc::NETLINK_LISTEN_ALL_NSID
            {
                netns = Some(libc::CMSG_DATA(message).cast::<NetnsId>().read_unaligned());
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok((len as usize, netns))
}
