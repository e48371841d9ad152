//! Links of eBPF programs to interfaces (TCX, XDP): made by index, and looked at from anywhere.
//!
//! Not by aya, which wants an interface's name and keeps the descriptor of a link to itself.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::{
    KernelError,
    syscall::{self, bpf},
};

const BPF_LINK_CREATE: libc::c_long = 28;

/// The kind of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum LinkType {
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// The beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// A program on an interface. It is off when this is dropped, wherever that happens.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    ifindex: u32,
    program: u32,
}

impl Link {
    /// Puts a program on an interface of the calling thread's namespace.
    pub(super) fn create(
        program: BorrowedFd<'_>,
        ifindex: u32,
        kind: LinkType,
        flags: u32,
    ) -> io::Result<Self> {
        let io = |error| match error {
            KernelError::Call { source, .. } => source,
            error => io::Error::other(error),
        };
        let mut attributes = LinkCreate {
            program: program.as_raw_fd() as u32,
            target: ifindex,
            attach_type: kind as u32,
            flags,
        };
        let fd = bpf(BPF_LINK_CREATE, &mut attributes, "BPF_LINK_CREATE").map_err(io)?;
        // SAFETY: a descriptor that the kernel has just given us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, ifindex, program: syscall::program_id(program).map_err(io)? })
    }

    /// Whether our program is still on the interface: not where somebody has detached the link or has put another
    /// program into it, nor where the interface is gone. The kernel waits for changes of interfaces that are under way.
    pub(super) fn is_there(&self) -> Result<bool, KernelError> {
        let info = syscall::link_info(&self.fd)?;
        Ok(info.ifindex == self.ifindex && info.program == self.program)
    }
}
