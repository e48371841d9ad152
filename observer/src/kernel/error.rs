//! Errors of loading, attaching and reading eBPF programs.

use std::{io, path::PathBuf};

/// Error of loading, attaching or reading eBPF programs.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object file does not match this daemon.
    #[error("the eBPF object has no {kind} `{name}`: rebuild with `cargo xtask build`")]
    Missing {
        /// `map` or `program`.
        kind: &'static str,
        /// Name of the map or program.
        name: &'static str,
    },
    /// The kernel refused the object file or one of its maps.
    #[error("loading the eBPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// A program could not be loaded or attached.
    #[error("{action} {program}: {source}")]
    Program {
        /// Failed action, such as `loading`.
        action: &'static str,
        /// Name of the program.
        program: &'static str,
        /// Error of the kernel.
        source: aya::programs::ProgramError,
    },
    /// The verifier refused a program.
    #[error(
        "this kernel's verifier refuses {program}: {reason} (--log-level debug prints its whole log)"
    )]
    Verifier {
        /// Name of the program.
        program: &'static str,
        /// Reason: the last line of its log before the statistics.
        reason: String,
    },
    /// Maps of an earlier run have a layout of another version.
    #[error("its maps have the layout of another version")]
    Layout,
    /// Another daemon uses the directory for pins.
    #[error("another observer pins its maps in {0}: stop it, or give another folder with --bpffs")]
    PinsTaken(PathBuf),
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// Call and its object.
        call: String,
        /// Error of the call.
        source: io::Error,
    },
    /// `--flow-memory` is too small.
    #[error("--flow-memory {given} is too small for {cpus} CPUs: give at least {least}")]
    Memory {
        /// Given budget in bytes.
        given: u64,
        /// Number of possible CPUs.
        cpus: u32,
        /// Smallest possible budget in bytes.
        least: u64,
    },
    /// The namespace is gone, or its path now leads to another one.
    #[error("network namespace {inode} at {path} is gone")]
    NamespaceGone {
        /// Inode of the namespace.
        inode: u64,
        /// Last known path.
        path: PathBuf,
    },
    /// The interface is gone.
    #[error("interface {0} is gone")]
    InterfaceGone(u32),
    /// All interface numbers are in use.
    #[error("more than {0} interfaces at once")]
    TooManyInterfaces(u16),
}

impl KernelError {
    /// Error of a call, from `errno`.
    pub(super) fn last(call: impl Into<String>) -> Self {
        Self::Call { call: call.into(), source: io::Error::last_os_error() }
    }

    /// Error of a program that the verifier refused, from its log.
    pub(super) fn verifier(program: &'static str, log: &str) -> Self {
        tracing::debug!(program, "log of the verifier:\n{log}");
        // The log ends with the reason, followed by statistics.
        let mut lines = log
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("processed "));
        Self::Verifier { program, reason: lines.next().unwrap_or("nothing").into() }
    }

    /// Error of a call.
    pub(super) fn call(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Call { call: call.into(), source: source.into() }
    }
}
