//! The clsact qdisc of an interface and the eBPF filters on it.
//!
//! Not by aya, which requires the name of the interface. A name may be any bytes, and may change
//! between two calls.

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
/// `TCA_BPF_FLAG_ACT_DIRECT`: the program's return value is the verdict.
const DIRECT_ACTION: u32 = 1;
/// `TC_H_CLSACT`: parent of the clsact qdisc.
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_ROOT`: parent of the root qdisc, which queues frames.
const ROOT: u32 = 0xffff_ffff;
/// Handle of the clsact qdisc.
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// A side of the clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Received frames.
    Ingress,
    /// Frames to send.
    Egress,
}

impl Side {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_…)`.
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// Identity of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterId {
    /// Index of the interface.
    pub ifindex: u32,
    /// Side of the clsact qdisc.
    pub side: Side,
    /// Priority; filters with lower ones run earlier.
    pub priority: u16,
    /// Handle, unique among the filters of one priority.
    pub handle: u32,
}

impl FilterId {
    /// `struct tcmsg` of the filter.
    fn header(self) -> [u8; HEADER] {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let info = u32::from(self.priority) << 16 | u32::from(protocol);
        header(self.ifindex, self.handle, self.side.parent(), info)
    }
}

/// An existing filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Priority.
    pub priority: u16,
    /// Handle.
    pub handle: u32,
    /// ID of its program, if it is an eBPF filter.
    pub program: Option<u32>,
}

/// `struct tcmsg`.
fn header(ifindex: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (chunk, word) in bytes[4..].chunks_exact_mut(4).zip([ifindex, handle, parent, info]) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Index of the interface in a message about a qdisc or filter.
pub(super) fn interface_of(payload: &[u8]) -> Option<u32> {
    let ifindex = u32_at(payload, 4);
    if ifindex.is_none() {
        unread::count(Kind::Hook, payload);
    }
    ifindex
}

/// Returns whether a message is about the root qdisc.
pub(super) fn is_root(payload: &[u8]) -> bool {
    u32_at(payload, 12) == Some(ROOT)
}

impl Netlink {
    /// Returns whether an interface of the socket's namespace has a TC filter on its ingress or
    /// egress.
    pub fn has_tc_filters(&mut self, ifindex: u32) -> io::Result<bool> {
        for side in Side::ALL {
            if !self.filters(ifindex, side)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the clsact qdisc to an interface of the socket's namespace. Returns `false` if the
    /// interface has one.
    ///
    /// Fails with [`io::ErrorKind::AlreadyExists`] if an `ingress` qdisc is in its place.
    pub fn add_clsact(&mut self, ifindex: u32) -> io::Result<bool> {
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let request =
            Request::new(libc::RTM_NEWQDISC, flags, &header(ifindex, CLSACT_HANDLE, CLSACT, 0))
                .with(TCA_KIND, b"clsact\0");
        match self.ask(request, |_| {}) {
            Ok(()) => Ok(true),
            // An `ingress` qdisc has the same parent, and treats an egress filter as an ingress
            // filter.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                match self.qdisc_at_clsact(ifindex)? {
                    Some(kind) if *kind != *"clsact" => Err(io::Error::new(
                        io::ErrorKind::AlreadyExists,
                        format!(
                            "the interface has the qdisc `{kind}` in the place of `clsact`: remove it"
                        ),
                    )),
                    _ => Ok(false),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Kind of the qdisc in the place of clsact.
    fn qdisc_at_clsact(&mut self, ifindex: u32) -> io::Result<Option<Box<str>>> {
        let mut found = None;
        self.ask(
            Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, &header(ifindex, 0, 0, 0)),
            |message| {
                let payload = message.payload;
                // The dump contains all interfaces.
                let is_wanted =
                    interface_of(payload) == Some(ifindex) && u32_at(payload, 12) == Some(CLSACT);
                if message.kind == libc::RTM_NEWQDISC && is_wanted {
                    let kind =
                        Attributes::of(payload.get(HEADER..).unwrap_or_default()).get(TCA_KIND);
                    found = kind.map(|kind| printable(kind).into());
                }
            },
        )?;
        Ok(found)
    }

    /// Removes the clsact qdisc of an interface of the socket's namespace, with all its filters.
    pub fn remove_clsact(&mut self, ifindex: u32) -> io::Result<()> {
        let header = header(ifindex, CLSACT_HANDLE, CLSACT, 0);
        self.ask(Request::new(libc::RTM_DELQDISC, libc::NLM_F_ACK, &header), |_| {})
    }

    /// Adds a filter with this program to an interface of the socket's namespace. With `replace`,
    /// replaces an existing filter.
    pub fn set_filter(
        &mut self,
        filter: FilterId,
        program: BorrowedFd<'_>,
        name: &str,
        replace: bool,
    ) -> io::Result<()> {
        // Without `NLM_F_CREATE` the kernel replaces the filter.
        let flags = if replace { 0 } else { libc::NLM_F_CREATE | libc::NLM_F_EXCL };
        let name = [name.as_bytes(), &[0]].concat();
        let request = Request::new(libc::RTM_NEWTFILTER, libc::NLM_F_ACK | flags, &filter.header())
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

    /// Removes a filter from an interface of the socket's namespace.
    pub fn remove_filter(&mut self, filter: FilterId) -> io::Result<()> {
        let request = Request::new(libc::RTM_DELTFILTER, libc::NLM_F_ACK, &filter.header());
        self.ask(request.with(TCA_KIND, b"bpf\0"), |_| {})
    }

    /// Lists the filters on one side of an interface of the socket's namespace.
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
    /// Reads a filter. Returns `None` for the entry of a priority as a whole.
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
