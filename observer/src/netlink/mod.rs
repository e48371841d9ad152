//! A synchronous rtnetlink socket.
//!
//! Owns: requests, dumps and events of the kernel's routing socket, and the count of messages that could not be
//! understood. In: a question, perhaps about another namespace. Out: [`Link`]s, [`Address`]es, [`Filter`]s, [`Event`]s.
//!
//! Decoded by hand from raw bytes, for the reason given in `message.rs`; and the namespace id of an event, which the
//! kernel sends as ancillary data, no crate reads.

mod address;
mod events;
mod link;
mod message;
mod tc;
mod unread;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use self::message::{Attributes, Message, Messages, Request, u32_at};
pub use self::{
    address::Address,
    events::{Change, Event, Events},
    link::{Link, LinkCounters},
    message::printable,
    tc::{Filter, FilterPlace, Side},
    unread::{Kind, unread},
};

/// A namespace as the kernel numbers it for the namespace that asks. Ids are used again after a namespace is gone.
pub type NetnsId = i32;

/// Large enough for any single datagram of a dump.
const BUFFER: usize = 1 << 17;
/// A dump that was disturbed by a change is asked for again this often.
const DUMPS: u32 = 5;
const IFA_TARGET_NETNSID: u16 = 10;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// Length of `struct rtgenmsg`.
const NETNS_HEADER: usize = 1;

/// A socket for questions.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// A socket in the namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Without it the kernel ignores the namespace of a dump of addresses (Linux 4.20).
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// The links of a namespace; `None` is our own.
    pub fn links(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<Link>> {
        let request = || {
            let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; link::HEADER]);
            in_netns(request, libc::IFLA_TARGET_NETNSID, netns)
        };
        self.dump(request, |message| {
            (message.kind == libc::RTM_NEWLINK).then(|| Link::read(message.payload)).flatten()
        })
    }

    /// The addresses of a namespace; `None` is our own.
    pub fn addresses(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<Address>> {
        let request = || {
            let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; address::HEADER]);
            in_netns(request, IFA_TARGET_NETNSID, netns)
        };
        self.dump(request, |message| {
            (message.kind == libc::RTM_NEWADDR).then(|| Address::read(message.payload)).flatten()
        })
    }

    /// The id of the namespace behind a descriptor, which gets one if it has none. This does not hold the namespace.
    pub fn netns_id(&mut self, fd: BorrowedFd<'_>) -> io::Result<NetnsId> {
        let assign = Request::new(libc::RTM_NEWNSID, libc::NLM_F_ACK, &[0; NETNS_HEADER])
            .with(NETNSA_NSID, &(-1_i32).to_ne_bytes())
            .with(NETNSA_FD, &fd.as_raw_fd().to_ne_bytes());
        match self.ask(assign, |_| {}) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        self.netns_id_if_any(fd)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The id of the namespace behind a descriptor; `None` if it has none.
    pub fn netns_id_if_any(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<NetnsId>> {
        let query = Request::new(libc::RTM_GETNSID, libc::NLM_F_ACK, &[0; NETNS_HEADER])
            .with(NETNSA_FD, &fd.as_raw_fd().to_ne_bytes());
        let mut found = None;
        self.ask(query, |message| {
            if message.kind == libc::RTM_NEWNSID {
                found = found.or(netns_id_in(message.payload));
            }
        })?;
        Ok(found)
    }

    /// Whether an interface of our own namespace has a TC filter on its ingress or egress.
    pub fn has_tc_filters(&mut self, ifindex: u32) -> io::Result<bool> {
        for side in Side::ALL {
            if !self.filters(ifindex, side)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One link of our own namespace. `ENODEV` where there is none with this index.
    pub fn link(&mut self, ifindex: u32) -> io::Result<Link> {
        let mut header = [0; link::HEADER];
        header[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        let mut found = None;
        self.ask(Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK, &header), |message| {
            if message.kind == libc::RTM_NEWLINK {
                found = Link::read(message.payload);
            }
        })?;
        found.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Frames and bytes that an interface of our own namespace has carried by its own count.
    pub fn counters(&mut self, ifindex: u32) -> io::Result<LinkCounters> {
        self.link(ifindex)?.counters.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Dumps; once more where the kernel says that something changed meanwhile, for then something may be left out.
    fn dump<T>(
        &mut self,
        request: impl Fn() -> Request,
        mut read: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMPS {
            found.clear();
            let mut disturbed = false;
            self.ask(request(), |message| {
                disturbed |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                found.extend(read(message));
            })?;
            if !disturbed {
                break;
            }
        }
        Ok(found)
    }

    /// Sends a request and hands each message of the answer to `take`; returns at its end.
    fn ask(&mut self, request: Request, mut take: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.finish(self.sequence), 0)?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in Messages::of(&self.buffer) {
                let Ok(message) = message else {
                    unread::count(Kind::Datagram, &self.buffer);
                    return Err(io::ErrorKind::InvalidData.into());
                };
                if message.sequence != self.sequence {
                    continue;
                }
                match i32::from(message.kind) {
                    // A dump that fails at its end says so there.
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        let code = u32_at(message.payload, 0).unwrap_or(0) as i32;
                        return if code < 0 { Err(io::Error::from_raw_os_error(-code)) } else { Ok(()) };
                    }
                    libc::NLMSG_NOOP => {}
                    _ => take(message),
                }
            }
        }
    }
}

fn in_netns(request: Request, attribute: u16, netns: Option<NetnsId>) -> Request {
    match netns {
        Some(id) => request.with(attribute, &id.to_ne_bytes()),
        None => request,
    }
}

/// The id in a message about namespaces; `None` where there is none.
fn netns_id_in(payload: &[u8]) -> Option<NetnsId> {
    // The attributes begin at a multiple of four.
    let value = Attributes::of(payload.get(4..)?).get(NETNSA_NSID);
    let Some(id) = value.and_then(|value| u32_at(value, 0)) else {
        unread::count(Kind::Netns, payload);
        return None;
    };
    Some(id as NetnsId).filter(|id| *id >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_listed_with_its_address() {
        let mut netlink = Netlink::new().unwrap();
        let links = netlink.links(None).unwrap();
        let lo = links.iter().find(|link| link.layer == libc::ARPHRD_LOOPBACK).unwrap();
        assert_eq!((&*lo.name, lo.index), ("lo", 1));
        assert!(lo.counters.is_some() && lo.mtu.is_some() && lo.qdisc.is_some(), "{lo:?}");
        assert_eq!(netlink.link(1).unwrap().name, lo.name);
        assert_eq!(netlink.link(u32::MAX >> 1).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        netlink.addresses(None).unwrap();
    }
}
