//! The clsact qdisc and the eBPF filters on it, by the index of their interface.
//!
//! Not by aya, which wants the interface's name: a name may be any bytes, and may change between two calls.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use super::{
    Netlink,
    message::{Attributes, Request, printable, u32_at},
    unread::{self, Kind},
};

/// Length of `struct tcmsg`.
pub(super) const HEADER: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
/// The program's result is the verdict.
const DIRECT_ACTION: u32 = 1;
/// `TC_H_CLSACT`, which is the parent of the qdisc.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_ROOT`: the parent of the qdisc in which frames wait.
const ROOT: u32 = 0xffff_ffff;
/// Handle of the qdisc.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// A side of the clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Frames that the interface has received.
    Ingress,
    /// Frames that it is to send.
    Egress,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_…)`.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// The place of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterPlace {
    /// Index of the interface.
    pub ifindex: u32,
    /// The side of its clsact qdisc.
    pub side: Side,
    /// Filters with a lower one run earlier.
    pub priority: u16,
    /// Tells apart the filters of one priority.
    pub handle: u32,
}

impl FilterPlace {
    fn header(self) -> [u8; HEADER] {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let info = u32::from(self.priority) << 16 | u32::from(protocol);
        header(self.ifindex, self.handle, self.side.parent(), info)
    }
}

/// A filter that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its priority.
    pub priority: u16,
    /// Its handle.
    pub handle: u32,
    /// The id of its program, where it is one of eBPF.
    pub program: Option<u32>,
}

fn header(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (chunk, word) in bytes[4..].chunks_exact_mut(4).zip([ifindex, handle, parent, info]) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The interface that a message about qdiscs or filters is about.
pub(super) fn interface_of(payload: &[u8]) -> Option<u32> {
    let ifindex = u32_at(payload, 4);
    if ifindex.is_none() {
        unread::count(Kind::Hook, payload);
    }
    ifindex
}

/// Whether a message is about the qdisc in which frames wait.
pub(super) fn is_root(payload: &[u8]) -> bool {
    u32_at(payload, 12) == Some(ROOT)
}

impl Netlink {
    /// Adds the clsact qdisc to an interface of our own namespace; says whether it was not there before. An error of kind
    /// [`io::ErrorKind::AlreadyExists`] where another one has its place.
    pub fn add_clsact(&mut self, ifindex: u32) -> io::Result<bool> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request = Request::new(libc::RTM_NEWQDISC, flags, &header(ifindex, CLSACT_HANDLE, CLSACT, 0))
            .with(TCA_KIND, b"clsact\0");
        match self.ask(request, |_| {}) {
            Ok(()) => Ok(true),
            // The `ingress` qdisc has the same place, and takes a filter for egress as one for ingress.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                match self.qdisc_at_clsact(ifindex)? {
                    Some(kind) if *kind != *"clsact" => Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!("the interface has the qdisc `{kind}` in the place of `clsact`: remove it"),
                    )),
                    _ => Ok(false),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The kind of the qdisc that an interface of our own namespace has in the place of clsact.
    fn qdisc_at_clsact(&mut self, ifindex: u32) -> io::Result<Option<Box<str>>> {
        let mut found = None;
        self.ask(Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, &header(ifindex, 0, 0, 0)), |message| {
            let payload = message.payload;
            // The dump is of all interfaces.
            let is_ours = interface_of(payload) == Some(ifindex) && u32_at(payload, 12) == Some(CLSACT);
            if message.kind == libc::RTM_NEWQDISC && is_ours {
                let kind = Attributes::of(payload.get(HEADER..).unwrap_or_default()).get(TCA_KIND);
                found = kind.map(|kind| printable(kind).into());
            }
        })?;
        Ok(found)
    }

    /// Removes the clsact qdisc of an interface of our own namespace, with all filters on it.
    pub fn remove_clsact(&mut self, ifindex: u32) -> io::Result<()> {
        let header = header(ifindex, CLSACT_HANDLE, CLSACT, 0);
        self.ask(Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, &header), |_| {})
    }

    /// Puts a program on an interface of our own namespace. With `replace`, in the place of the filter that is there.
    pub fn set_filter(
        &mut self,
        place: FilterPlace,
        program: BorrowedFd<'_>,
        name: &str,
        replace: bool,
    ) -> io::Result<()> {
        // Without `NLM_F_CREATE` the filter is replaced in place.
        let flags = if replace { 0 } else { libc::NLM_F_CREATE | libc::NLM_F_EXCL };
        let name = [name.as_bytes(), &[0]].concat();
        let request = Request::new(libc::RTM_NEWTFILTER, libc::NLM_F_ACK | flags, &place.header())
            .with(TCA_KIND, b"bpf\0")
            .with_nested(
                TCA_OPTIONS,
                &[
                    (TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
                    (TCA_BPF_NAME, &name),
                    (TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
                ],
            );
        self.ask(request, |_| {})
    }

    /// Takes a filter off an interface of our own namespace.
    pub fn remove_filter(&mut self, place: FilterPlace) -> io::Result<()> {
        let request = Request::new(libc::RTM_DELTFILTER, libc::NLM_F_ACK, &place.header());
        self.ask(request.with(TCA_KIND, b"bpf\0"), |_| {})
    }

    /// The filters on one side of an interface of our own namespace.
    pub fn filters(&mut self, ifindex: u32, side: Side) -> io::Result<Vec<Filter>> {
        let header = header(ifindex, 0, side.parent(), 0);
        let mut filters = Vec::new();
        self.ask(Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, &header), |message| {
            if message.kind == libc::RTM_NEWTFILTER {
                filters.extend(Filter::read(message.payload));
            }
        })?;
        Ok(filters)
    }
}

impl Filter {
    /// `None` for the entry that stands for a priority as a whole.
    fn read(payload: &[u8]) -> Option<Self> {
        let (Some(handle), Some(info)) = (u32_at(payload, 8), u32_at(payload, 16)) else {
            unread::count(Kind::Hook, payload);
            return None;
        };
        let attributes = Attributes::of(&payload[HEADER..]);
        let options = attributes.get(TCA_OPTIONS)?;
        let program = Attributes::of(options).get(TCA_BPF_ID).and_then(|id| u32_at(id, 0));
        Some(Self { priority: (info >> 16) as u16, handle, program })
    }
}
