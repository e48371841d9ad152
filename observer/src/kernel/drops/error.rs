//! Error of observing drops.

use crate::kernel::{KernelError, btf::BtfError};

/// Error that leaves the daemon without drop counts.
#[derive(Debug, thiserror::Error)]
pub enum DropsError {
    /// The offsets of kernel structures cannot be read from BTF.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// aya cannot read the kernel's BTF.
    #[error("reading the kernel's types: {0}")]
    Types(#[from] aya::BtfError),
    /// The program cannot be loaded or attached.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
