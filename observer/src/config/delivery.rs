//! Settings of the delivery of finished files.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::{error::ConfigError, output::OutputConfig, settings::DeliverySettings};
use crate::{
    http::Trust,
    sink::{DeliveryOptions, Store, StoreOptions},
};

/// Validated settings of the delivery.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// The destination.
    pub store: Store,
    /// Settings of the destination.
    pub options: StoreOptions,
    /// Maximum size of the waiting files.
    pub spool_size: ByteSize,
}

/// Default size of the spool.
const SPOOL_SIZE: ByteSize = ByteSize::gib(1);

impl DeliveryConfig {
    pub(super) fn new(
        settings: &DeliverySettings,
        trust: Trust,
        output: &OutputConfig,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(url) = &settings.deliver else {
            return settings.needs_destination().map_or(Ok(None), |flag| Err(ConfigError::NoDelivery(flag)));
        };
        let outputs = &output.outputs;
        if !outputs.has_files() {
            return Err(ConfigError::NoFiles);
        }
        let spool_size = settings.spool_size.unwrap_or(SPOOL_SIZE);
        // One file may be uploading while another is finished.
        if spool_size.as_u64() < output.records.file_size.as_u64().saturating_mul(2) {
            return Err(ConfigError::SpoolSize(spool_size.as_u64()));
        }
        if let Some(folder) = url.strip_prefix("file://").map(Path::new)
            && folder.is_absolute()
            && resolved(folder).starts_with(resolved(&outputs.directory))
        {
            let (folder, directory) = (folder.to_path_buf(), outputs.directory.clone());
            return Err(ConfigError::Inside { folder, directory });
        }
        let region = output.context.region.as_deref().map(Into::into);
        let options = StoreOptions {
            endpoint: settings.deliver_endpoint.clone(),
            region,
            kms_key: settings.deliver_kms_key.clone(),
            checksum: settings.deliver_checksum,
            trust,
        };
        let store = Store::new(url, &options)?;
        Ok(Some(Self { store, options, spool_size }))
    }

    /// Options for starting the delivery.
    pub fn delivery(&self, output: &OutputConfig) -> DeliveryOptions {
        DeliveryOptions {
            store: self.store.clone(),
            directory: output.outputs.directory.clone(),
            spool_size: self.spool_size.as_u64(),
        }
    }
}

/// Resolves symbolic links in the part of the path that exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let whole = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    whole.unwrap_or(path)
}
