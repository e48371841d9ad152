//! The request socket.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{
    address::{self, Address},
    link::{self, Link, LinkCounters},
    message::{Message, Messages, Request, u32_at},
    netns_id::{self, NETNSA_FD, NETNSA_NSID, NetnsId, netns_id_in},
    unread::{self, Kind},
};

/// Buffer size in bytes, large enough for any datagram of a dump.
pub(super) const BUFFER: usize = 1 << 17;
/// Maximum number of attempts at a dump that changes interrupt.
const DUMPS: u32 = 5;
const IFA_TARGET_NETNSID: u16 = 10;

/// A socket for requests.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Otherwise the kernel ignores the namespace of an address dump (Linux 4.20).
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Lists the links of a namespace; `None` is the socket's own.
    pub fn links(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<Link>> {
        let request = || {
            let request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; link::HEADER]);
            in_netns(request, libc::IFLA_TARGET_NETNSID, netns)
        };
        self.dump(request, |message| {
            (message.kind == libc::RTM_NEWLINK).then(|| Link::read(message.payload)).flatten()
        })
    }

    /// Lists the addresses of a namespace; `None` is the socket's own.
    pub fn addresses(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<Address>> {
        let request = || {
            let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; address::HEADER]);
            in_netns(request, IFA_TARGET_NETNSID, netns)
        };
        self.dump(request, |message| {
            (message.kind == libc::RTM_NEWADDR).then(|| Address::read(message.payload)).flatten()
        })
    }

    /// ID of the namespace behind a descriptor. Assigns one if it has none. An ID does not keep the
    /// namespace alive.
    pub fn netns_id(&mut self, fd: BorrowedFd<'_>) -> io::Result<NetnsId> {
        let assign = Request::new(libc::RTM_NEWNSID, libc::NLM_F_ACK, &[0; netns_id::HEADER])
            .with(NETNSA_NSID, &(-1_i32).to_ne_bytes())
            .with(NETNSA_FD, &fd.as_raw_fd().to_ne_bytes());
        match self.ask(assign, |_| {}) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        self.netns_id_if_any(fd)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// ID of the namespace behind a descriptor; `None` if it has none.
    pub fn netns_id_if_any(&mut self, fd: BorrowedFd<'_>) -> io::Result<Option<NetnsId>> {
        let query = Request::new(libc::RTM_GETNSID, libc::NLM_F_ACK, &[0; netns_id::HEADER])
            .with(NETNSA_FD, &fd.as_raw_fd().to_ne_bytes());
        let mut found = None;
        self.ask(query, |message| {
            if message.kind == libc::RTM_NEWNSID {
                found = found.or(netns_id_in(message.payload));
            }
        })?;
        Ok(found)
    }

    /// Link with this index in the socket's namespace. Fails with `ENODEV` if there is none.
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

    /// Device counters of an interface in the socket's namespace.
    pub fn counters(&mut self, ifindex: u32) -> io::Result<LinkCounters> {
        self.link(ifindex)?.counters.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads a dump. Repeats it if the kernel reports changes meanwhile, because entries may then
    /// be missing.
    fn dump<T>(
        &mut self,
        request: impl Fn() -> Request,
        mut read: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMPS {
            found.clear();
            let mut interrupted = false;
            self.ask(request(), |message| {
                interrupted |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                found.extend(read(message));
            })?;
            if !interrupted {
                break;
            }
        }
        Ok(found)
    }

    /// Sends a request and passes each message of the answer to `take`. Returns at the end of the
    /// answer, or with the error in it.
    pub(super) fn ask(
        &mut self,
        request: Request,
        mut take: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
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
                    // `NLMSG_DONE` has an error code too: a dump may fail at its end.
                    libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                        let code = u32_at(message.payload, 0).unwrap_or(0) as i32;
                        return if code < 0 {
                            Err(io::Error::from_raw_os_error(-code))
                        } else {
                            Ok(())
                        };
                    }
                    libc::NLMSG_NOOP => {}
                    _ => take(message),
                }
            }
        }
    }
}

/// Directs a request to another namespace.
fn in_netns(request: Request, attribute: u16, netns: Option<NetnsId>) -> Request {
    match netns {
        Some(id) => request.with(attribute, &id.to_ne_bytes()),
        None => request,
    }
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
