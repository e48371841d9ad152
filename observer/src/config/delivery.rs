//! Where finished files are put.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::{ConfigError, OutputConfig};
use crate::sink::{DeliveryOptions, Store};

/// How finished files are delivered.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// Where they go.
    pub store: Store,
    /// Address of its service, where it is not the usual one.
    pub endpoint: Option<String>,
    /// Bytes of files that may wait.
    pub spool_size: ByteSize,
}

const SPOOL_SIZE: ByteSize = ByteSize::gib(1);

impl DeliveryConfig {
    pub(super) fn new(
        url: Option<String>,
        endpoint: Option<String>,
        spool_size: Option<ByteSize>,
        output: &OutputConfig,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(url) = url else {
            return match (endpoint, spool_size) {
                (Some(_), _) => Err(ConfigError::NoDelivery("deliver-endpoint")),
                (None, Some(_)) => Err(ConfigError::NoDelivery("spool-size")),
                (None, None) => Ok(None),
            };
        };
        if !output.has_files() {
            return Err(ConfigError::NoFiles);
        }
        let spool_size = spool_size.unwrap_or(SPOOL_SIZE);
        // One file may be on its way while another is finished.
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
        let store = Store::new(&url, endpoint.as_deref(), output.context.region.as_deref())?;
        Ok(Some(Self { store, endpoint, spool_size }))
    }

    /// What the delivery is made of.
    pub fn options(&self, output: &OutputConfig) -> DeliveryOptions {
        DeliveryOptions {
            store: self.store.clone(),
            directory: output.directory.clone(),
            spool_size: self.spool_size.as_u64(),
        }
    }

    /// The lines of a file that say the same.
    pub(super) fn to_toml(&self, line: &mut impl FnMut(&str, String)) {
        let text = |text: &str| toml::Value::from(text).to_string();
        line("deliver", text(self.store.url()));
        if let Some(endpoint) = &self.endpoint {
            line("deliver-endpoint", text(endpoint));
        }
        line("spool-size", format!("\"{}B\"", self.spool_size.as_u64()));
    }
}

/// A path without symbolic links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let whole = path.ancestors().find_map(|there| {
        let rest = path.strip_prefix(there).ok()?;
        Some(there.canonicalize().ok()?.join(rest))
    });
    whole.unwrap_or(path)
}
