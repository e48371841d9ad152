//! What the daemon tells of itself: Prometheus metrics, health.
//!
//! Owns: the registry, the metrics' names, and the HTTP server. In: counts from every room, by handles that are
//! passed to them. Out: `/metrics`, `/healthz`, `/readyz`, `/api/v1/…`.
//!
//! Labels are bounded: they name local tasks, directions, protocols and reasons, never a peer, a port or an ARN. Ids
//! stand on one `_info` series, joined by the short label `interface`.

mod attach;
mod drops;
mod http;
mod interfaces;
mod labels;
mod metrics;
mod outputs;
mod server;
mod sources;
mod totals;

pub use attach::InterfaceCounts;
pub use drops::DropMetrics;
pub use http::{Pages, fetch_tasks, serve};
pub use interfaces::InterfaceStats;
pub use metrics::{Health, Metrics, Phase};
pub use server::Server;
