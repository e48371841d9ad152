use std::path::PathBuf;

use super::store::Store;

/// Settings of the delivery.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// Destination of the files.
    pub store: Store,
    /// The output directory.
    pub directory: PathBuf,
    /// Maximum size in bytes of the finished files that wait or are set aside.
    pub spool_size: u64,
}
