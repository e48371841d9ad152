//! A synchronous rtnetlink socket.
//!
//! Owns: requests, dumps and events of the kernel's routing socket. In: a question, perhaps about another namespace.
//! Out: messages of `netlink-packet-route`. The crates of that family do the encoding; what they lack is the
//! namespace id of an event, which the kernel sends as ancillary data.

mod events;

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkMessage},
    nsid::{NsidAttribute, NsidMessage},
    tc::{TcHandle, TcMessage},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use events::{Event, Events};

/// A namespace as the kernel numbers it for the namespace that asks. Ids are used again after a namespace is gone.
pub type NetnsId = i32;

/// Large enough for any single datagram of a dump.
const BUFFER: usize = 1 << 17;

/// Frames and bytes that an interface has carried by its own count, into its namespace and out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Received and sent frames; super-packets may count as one.
    pub frames: [u64; 2],
    /// Their bytes, with link headers.
    pub bytes: [u64; 2],
}

impl LinkCounters {
    /// Those in a link message.
    pub fn of(link: &LinkMessage) -> Option<Self> {
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(Self {
                frames: [stats.rx_packets, stats.tx_packets],
                bytes: [stats.rx_bytes, stats.tx_bytes],
            }),
            _ => None,
        })
    }
}

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
    pub fn links(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<LinkMessage>> {
        let mut message = LinkMessage::default();
        message.attributes.extend(netns.map(LinkAttribute::IfNetnsId));
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(link),
                _ => None,
            })
            .collect())
    }

    /// The addresses of a namespace; `None` is our own.
    pub fn addresses(&mut self, netns: Option<NetnsId>) -> io::Result<Vec<AddressMessage>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Unspec;
        message.attributes.extend(netns.map(AddressAttribute::TargetNetNsId));
        let answers = self.ask(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => Some(address),
                _ => None,
            })
            .collect())
    }

    /// The id of the namespace behind a descriptor, which gets one if it has none. This does not hold the namespace.
    pub fn netns_id(&mut self, fd: std::os::fd::BorrowedFd<'_>) -> io::Result<NetnsId> {
        use std::os::fd::AsRawFd;
        let fd = NsidAttribute::Fd(fd.as_raw_fd() as u32);
        let mut assign = NsidMessage::default();
        assign.attributes = vec![NsidAttribute::Id(-1), fd.clone()];
        match self.ask(RouteNetlinkMessage::NewNsId(assign), NLM_F_ACK) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        self.known_netns_id(fd)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The id of the namespace behind a descriptor; `None` if it has none.
    pub fn netns_id_if_any(&mut self, fd: std::os::fd::BorrowedFd<'_>) -> io::Result<Option<NetnsId>> {
        use std::os::fd::AsRawFd;
        self.known_netns_id(NsidAttribute::Fd(fd.as_raw_fd() as u32))
    }

    fn known_netns_id(&mut self, fd: NsidAttribute) -> io::Result<Option<NetnsId>> {
        let mut query = NsidMessage::default();
        query.attributes = vec![fd];
        for answer in self.ask(RouteNetlinkMessage::GetNsId(query), NLM_F_ACK)? {
            if let RouteNetlinkMessage::NewNsId(message) = answer {
                for attribute in message.attributes {
                    if let NsidAttribute::Id(id) = attribute
                        && id >= 0
                    {
                        return Ok(Some(id));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether an interface of our own namespace has a TC filter on its ingress or egress.
    pub fn has_tc_filters(&mut self, ifindex: u32) -> io::Result<bool> {
        for side in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut message = TcMessage::with_index(ifindex as i32);
            message.header.parent = TcHandle { major: 0xffff, minor: side };
            if !self.ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One link of our own namespace.
    pub fn link(&mut self, ifindex: u32) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        link.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// What an interface of our own namespace has carried by its own count.
    pub fn counters(&mut self, ifindex: u32) -> io::Result<LinkCounters> {
        LinkCounters::of(&self.link(ifindex)?).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Removes the clsact qdisc of an interface of our own namespace.
    pub fn remove_clsact(&mut self, ifindex: u32) -> io::Result<()> {
        let mut message = TcMessage::with_index(ifindex as i32);
        message.header.parent = TcHandle::CLSACT;
        message.header.handle = TcHandle { major: 0xffff, minor: 0 };
        self.ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(|_| ())
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in messages(&self.buffer) {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(_) => return Err(error.to_io()),
                    },
                    _ => {}
                }
            }
        }
    }
}

/// The messages of a datagram. One that cannot be read is passed over with a notice: it is of a kind that nobody here
/// asked for, or of a kernel newer than the crate that reads it.
fn messages(mut bytes: &[u8]) -> Vec<NetlinkMessage<RouteNetlinkMessage>> {
    let mut found = Vec::new();
    while bytes.len() >= 16 {
        let len = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if len < 16 || len > bytes.len() {
            break;
        }
        match NetlinkMessage::deserialize(&bytes[..len]) {
            Ok(message) => found.push(message),
            Err(error) => tracing::debug!(%error, "a netlink message could not be read"),
        }
        bytes = &bytes[((len + 3) & !3).min(bytes.len())..];
    }
    found
}
