//! The timeout of every read and connect of the demo's traffic.

use std::time::Duration;

pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
