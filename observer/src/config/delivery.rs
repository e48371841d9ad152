//! Settings of the delivery of finished files.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::{error::ConfigError, output::OutputConfig};
use crate::{
    http::Trust,
    sink::{Checksum, DeliveryOptions, Store, StoreOptions},
};

/// The settings as given.
#[derive(Clone, Debug, Default)]
pub(super) struct DeliverySettings {
    pub(super) url: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) checksum: Option<Checksum>,
    pub(super) spool_size: Option<ByteSize>,
}

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

const SPOOL_SIZE: ByteSize = ByteSize::gib(1);

impl DeliveryConfig {
    pub(super) fn new(
        settings: DeliverySettings,
        trust: Trust,
        output: &OutputConfig,
    ) -> Result<Option<Self>, ConfigError> {
        let DeliverySettings { url, endpoint, kms_key, checksum, spool_size } = settings;
        let Some(url) = url else {
            let given = [
                ("deliver-endpoint", endpoint.is_some()),
                ("deliver-kms-key", kms_key.is_some()),
                ("deliver-checksum", checksum.is_some()),
                ("spool-size", spool_size.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((flag, _)) => Err(ConfigError::NoDelivery(flag)),
                None => Ok(None),
            };
        };
        if !output.has_files() {
            return Err(ConfigError::NoFiles);
        }
        let spool_size = spool_size.unwrap_or(SPOOL_SIZE);
        // One file may be uploading while another is finished.
        if spool_size.as_u64() < output.file_size.as_u64().saturating_mul(2) {
            return Err(ConfigError::SpoolSize(spool_size.as_u64()));
        }
        if let Some(folder) = url.strip_prefix("file://").map(Path::new)
            && folder.is_absolute()
            && resolved(folder).starts_with(resolved(&output.directory))
        {
            let (folder, directory) = (folder.to_path_buf(), output.directory.clone());
            return Err(ConfigError::Inside { folder, directory });
        }
        let region = output.context.region.as_deref().map(Into::into);
        let options = StoreOptions { endpoint, region, kms_key, checksum, trust };
        let store = Store::new(&url, &options)?;
        Ok(Some(Self { store, options, spool_size }))
    }

    /// Options for starting the delivery.
    pub fn delivery(&self, output: &OutputConfig) -> DeliveryOptions {
        DeliveryOptions {
            store: self.store.clone(),
            directory: output.directory.clone(),
            spool_size: self.spool_size.as_u64(),
        }
    }

    /// Prints the settings as lines of a configuration file.
    pub(super) fn to_toml(&self, line: &mut impl FnMut(&str, String)) {
        let text = |text: &str| toml::Value::from(text).to_string();
        line("deliver", text(self.store.url()));
        let StoreOptions { endpoint, kms_key, checksum, .. } = &self.options;
        for (key, value) in [
            ("deliver-endpoint", endpoint.as_deref()),
            ("deliver-kms-key", kms_key.as_deref()),
            ("deliver-checksum", checksum.map(Checksum::as_str)),
        ] {
            if let Some(value) = value {
                line(key, text(value));
            }
        }
        line("spool-size", format!("\"{}B\"", self.spool_size.as_u64()));
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
