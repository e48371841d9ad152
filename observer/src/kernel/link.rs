//! Links of eBPF programs to interfaces (TCX, XDP).
//!
//! Not by aya, which requires the name of the interface and does not expose the descriptor of a
//! link.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use super::{
    KernelError,
    syscall::{self, bpf},
};

const BPF_LINK_CREATE: libc::c_long = 28;

/// Type of a link: values of `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum LinkType {
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// Beginning of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// A program attached to an interface. Dropping the link in any namespace detaches the program.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    ifindex: u32,
    program: u32,
}

impl Link {
    /// Attaches a program to an interface of the calling thread's namespace.
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
        // SAFETY: the kernel has just returned this descriptor to us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, ifindex, program: syscall::program_id(program).map_err(io)? })
    }

    /// Returns whether the program is still attached. It is not if the link was detached or updated
    /// with another program, or if the interface is gone. The kernel waits for pending changes of
    /// interfaces.
    pub(super) fn is_attached(&self) -> Result<bool, KernelError> {
        let info = syscall::link_info(&self.fd)?;
        Ok(info.ifindex == self.ifindex && info.program == self.program)
    }
}
