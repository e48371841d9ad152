use std::{io, path::PathBuf};

/// What can go wrong between the daemon and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object is not what this daemon was built with.
    #[error("the eBPF object has no {kind} `{name}`: rebuild with `cargo xtask build`")]
    Missing {
        /// Map or program.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The kernel refused the object, a map or a program.
    #[error("loading the eBPF programs: {0}")]
    Load(#[from] aya::EbpfError),
    /// The verifier refused a program, or it could not be attached.
    #[error("{action} {program}: {source}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// The program's name.
        program: &'static str,
        /// What the kernel said.
        source: aya::programs::ProgramError,
    },
    /// The verifier refused a program.
    #[error("this kernel's verifier refuses {program}: {said} (--log-level debug prints all that it says)")]
    Verifier {
        /// The program's name.
        program: &'static str,
        /// Its last word.
        said: String,
    },
    /// Another daemon pins its maps there.
    #[error("another observer pins its maps in {0}: stop it, or give another folder with --bpffs")]
    PinsTaken(PathBuf),
    /// A system call failed.
    #[error("{call}: {source}")]
    Call {
        /// Which one, and on what.
        call: String,
        /// Its error.
        source: io::Error,
    },
    /// `--flow-memory` holds less than one set per CPU.
    #[error("--flow-memory {given} is too small for {cpus} CPUs: give at least {least}")]
    Memory {
        /// Bytes given.
        given: u64,
        /// Possible CPUs.
        cpus: u32,
        /// The least number of bytes.
        least: u64,
    },
    /// The namespace is gone, or its path leads elsewhere now.
    #[error("network namespace {inode} at {path} is gone")]
    NamespaceGone {
        /// Inode of the namespace.
        inode: u64,
        /// Where it was.
        path: PathBuf,
    },
    /// The interface is gone.
    #[error("interface {0} is gone")]
    InterfaceGone(u32),
    /// No number is free.
    #[error("more than {0} interfaces at once")]
    TooManyInterfaces(u16),
}

impl KernelError {
    /// A failed call with its `errno`.
    pub(super) fn last(call: impl Into<String>) -> Self {
        Self::Call { call: call.into(), source: io::Error::last_os_error() }
    }

    /// A refused program, from the verifier's log.
    pub(super) fn verifier(program: &'static str, log: &str) -> Self {
        tracing::debug!(program, "the verifier says:\n{log}");
        // The log ends with the reason, and then with statistics.
        let mut lines = log
            .lines()
            .rev()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("processed "));
        Self::Verifier { program, said: lines.next().unwrap_or("nothing").into() }
    }

    /// A failed call.
    pub(super) fn call(call: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Call { call: call.into(), source: source.into() }
    }
}
