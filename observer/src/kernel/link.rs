//! Links of eBPF programs to interfaces (TCX, XDP).
//!
//! Not by aya, which requires the name of the interface and does not expose the descriptor of a
//! link.
//!
//! A link is pinned, so that its program stays attached when the daemon ends, and the next daemon
//! can replace the program without a gap.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use super::{
    KernelError,
    syscall::{self, bpf},
};

const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

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

/// Beginning of `union bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// A program attached to an interface. Dropping the link in any namespace detaches the program,
/// unless the link is pinned.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    ifindex: u32,
    program: u32,
    pin: Option<PathBuf>,
}

impl Link {
    /// Attaches a program to an interface of the calling thread's namespace.
    pub(super) fn create(
        program: BorrowedFd<'_>,
        ifindex: u32,
        kind: LinkType,
        flags: u32,
    ) -> io::Result<Self> {
        let mut attributes = LinkCreate {
            program: program.as_raw_fd() as u32,
            target: ifindex,
            attach_type: kind as u32,
            flags,
        };
        let fd = bpf(BPF_LINK_CREATE, &mut attributes, "BPF_LINK_CREATE").map_err(as_io)?;
        // SAFETY: the kernel has just returned this descriptor to us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let program = syscall::program_id(program).map_err(as_io)?;
        Ok(Self { fd, ifindex, program, pin: None })
    }

    /// Attaches a program in place of the one that an earlier daemon has attached by a link with
    /// this pin. Each packet is counted by either of them. `None` if there is no such link to this
    /// interface.
    pub(super) fn replace(program: BorrowedFd<'_>, ifindex: u32, pin: &Path) -> Option<Self> {
        let fd = syscall::pinned(pin).ok()?;
        if syscall::link_info(&fd).ok()?.ifindex != ifindex {
            return None;
        }
        let mut attributes = LinkUpdate {
            link: fd.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            flags: 0,
            old_program: 0,
        };
        bpf(BPF_LINK_UPDATE, &mut attributes, "BPF_LINK_UPDATE").ok()?;
        let program = syscall::program_id(program).ok()?;
        Some(Self { fd, ifindex, program, pin: Some(pin.to_path_buf()) })
    }

    /// Pins the link to this path, in place of any other.
    pub(super) fn pin(&mut self, path: &Path) -> io::Result<()> {
        unpin(path);
        syscall::pin(self.fd.as_fd(), path).map_err(as_io)?;
        self.pin = Some(path.to_path_buf());
        Ok(())
    }

    /// Removes the pin: the program is detached once the link is dropped.
    pub(super) fn unpin(&self) {
        if let Some(pin) = &self.pin {
            unpin(pin);
        }
    }

    /// Returns whether the program is still attached. It is not if the link was detached or updated
    /// with another program, or if the interface is gone. The kernel waits for pending changes of
    /// interfaces.
    pub(super) fn is_attached(&self) -> Result<bool, KernelError> {
        let info = syscall::link_info(&self.fd)?;
        Ok(info.ifindex == self.ifindex && info.program == self.program)
    }
}

/// Removes the pin of an earlier link, if there is one.
pub(super) fn unpin(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a pinned link could not be removed");
    }
}

fn as_io(error: KernelError) -> io::Error {
    match error {
        KernelError::Call { source, .. } => source,
        error => io::Error::other(error),
    }
}
