//! Prometheus metrics, health and the HTTP server.
//!
//! Owns: the registry, the names of the metrics, and the HTTP server. In: counts from every room,
//! through handles. Out: `/metrics`, `/healthz`, `/readyz`, `/api/v1/…`.
//!
//! Labels have few values: local tasks, directions, protocols and reasons, never a peer, a port or
//! an ARN. IDs are labels of one `_info` series, joined by the short label `interface`.

mod attach;
mod delivery;
mod drops;
mod frames;
mod health;
mod http;
mod interfaces;
mod labels;
mod losses;
mod metrics;
mod observers;
mod outputs;
mod registry;
mod server;
mod sources;
mod totals;
mod windows;

pub use attach::InterfaceCounts;
pub use drops::DropMetrics;
pub use health::Health;
pub use http::{Pages, fetch_tasks, serve};
pub use interfaces::InterfaceStats;
pub use metrics::Metrics;
pub use server::Server;
