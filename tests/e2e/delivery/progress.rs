//! The state of delivery, by the metrics.

use observer_tests::metrics::Metrics;

pub(super) fn waiting(page: &Metrics) -> Option<f64> {
    page.get("observer_spool_files", &[])
}

pub(super) fn failing(page: &Metrics) -> bool {
    page.get("observer_delivery_failing", &[]) == Some(1.0)
}

pub(super) fn delivered(page: &Metrics) -> u64 {
    page.sum("observer_delivered_files_total", &[])
}
