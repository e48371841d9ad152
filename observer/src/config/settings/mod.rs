//! The settings. A field is written once: its flag, variable, key in the file, default and
//! description are the attributes and the doc comment of the field. `observer config`, `--help` and
//! the table of settings in the documentation are derived from them.

mod delivery;
mod files;
mod host;
mod identity;
mod kernel;
mod records;

use bytesize::ByteSize;
use clap::Args;
use serde::{Serialize, Serializer};

pub use self::{
    delivery::DeliverySettings, files::FileSettings, host::HostSettings,
    identity::IdentitySettings, kernel::KernelSettings, records::RecordSettings,
};

/// Settings of `observer run`, from flags, variables and the configuration file, in this order of
/// precedence.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Outputs and their directory.
    #[command(flatten)]
    #[serde(flatten)]
    pub files: FileSettings,
    /// Contents of records.
    #[command(flatten)]
    #[serde(flatten)]
    pub records: RecordSettings,
    /// Delivery of finished files.
    #[command(flatten)]
    #[serde(flatten)]
    pub delivery: DeliverySettings,
    /// Programs and maps.
    #[command(flatten)]
    #[serde(flatten)]
    pub kernel: KernelSettings,
    /// Sources of identity.
    #[command(flatten)]
    #[serde(flatten)]
    pub identity: IdentitySettings,
    /// The daemon's place on its host.
    #[command(flatten)]
    #[serde(flatten)]
    pub host: HostSettings,
}

/// Serializes a size as [`size`](super::values::size) reads it, without rounding.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn bytes<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}B", size.as_u64()))
}

/// Serializes an optional size like [`bytes`].
#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn optional_bytes<S: Serializer>(
    size: &Option<ByteSize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match size {
        Some(size) => bytes(size, serializer),
        None => serializer.serialize_none(),
    }
}
