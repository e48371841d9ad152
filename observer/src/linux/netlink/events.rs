//! Notifications of the kernel about links, addresses, qdiscs, filters and namespaces.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    link::Link,
    message::{Message, Messages},
    netns_id::{NetnsId, netns_id_in},
    socket::BUFFER,
    tc,
    unread::{self, Kind},
};

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_TC,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_NSID,
];

/// A notification of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change in a namespace; `None` is the socket's own.
    Change(Option<NetnsId>, Change),
    /// Notifications were lost. All namespaces must be listed again.
    Overrun,
}

/// A change in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Interfaces or addresses have changed, or a message could not be read.
    Interfaces,
    /// An interface has left the namespace.
    LinkGone(Box<Link>),
    /// The namespace with this ID is gone. IDs are local to the namespace of the event.
    NetnsGone(NetnsId),
    /// A qdisc or filter of the interface with this index is gone.
    HooksGone(u32),
}

/// Socket that receives the notifications of every namespace with an ID in the socket's own.
///
/// A socket inside another namespace would keep that namespace alive.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribes to links, qdiscs, filters, addresses and namespace IDs. Requires
    /// `CAP_NET_BROADCAST`.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_listen_all_namespaces(true)?;
        // Enough for a thousand tasks that start at once. The kernel caps the size at
        // net.core.rmem_max.
        socket.set_rx_buf_sz(4_u32 << 20)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER] })
    }

    /// Returns the events since the last call, without waiting.
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

/// Appends the events in a datagram.
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

/// Converts a message. Unreadable messages become [`Change::Interfaces`], so that the namespace is
/// listed again.
fn change(message: Message<'_>) -> Option<Change> {
    match message.kind {
        libc::RTM_DELLINK => match Link::read(message.payload) {
            // A port that leaves a bridge causes this message too, with the family `AF_BRIDGE`.
            Some(link) if i32::from(link.family) == libc::AF_UNSPEC => {
                Some(Change::LinkGone(Box::new(link)))
            }
            _ => Some(Change::Interfaces),
        },
        libc::RTM_NEWLINK | libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Change::Interfaces),
        // The queueing of the interface may have changed.
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC if tc::is_root(message.payload) => {
            Some(Change::Interfaces)
        }
        libc::RTM_DELQDISC | libc::RTM_DELTFILTER => {
            Some(tc::interface_of(message.payload).map_or(Change::Interfaces, Change::HooksGone))
        }
        libc::RTM_DELNSID => netns_id_in(message.payload).map(Change::NetnsGone),
        _ => None,
    }
}

/// Receives one datagram. Returns its length and the ID of the namespace it is about.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<NetnsId>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = [0_u64; 8];
    // SAFETY: a `msghdr` of zeros is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = parts.as_mut_ptr().cast();
    header.msg_iovlen = parts.len();
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header points to memory that outlives the call.
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
