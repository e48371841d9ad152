use super::failure::Refusal;
use crate::sink::{counts::Counts, output::Output};

/// Receives the outcome of every delivery.
pub trait DeliveryObserver: Send + Sync {
    /// A file of this size in bytes was delivered.
    fn delivered(&self, bytes: u64);
    /// An attempt failed.
    fn delivery_failed(&self);
    /// Delivery fails at present, or works again. Files that are refused permanently do not count.
    fn delivery_failing(&self, failing: bool);
    /// A file was removed because too many files wait. `None` if an earlier run wrote the file.
    fn dropped(&self, counts: Option<(Output, &Counts)>);
    /// A file was set aside, because the store refuses it but accepts others.
    fn refused(&self, reason: Refusal);
    /// Number and bytes of the waiting files, and of the files set aside.
    fn waiting(&self, waiting: (u64, u64), aside: (u64, u64));
}
