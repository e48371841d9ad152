//! The async runtime, and the watch of network namespaces on it.

use std::io;

use tokio::runtime::Runtime;

use crate::failure::Failure;

pub(crate) fn async_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Names are resolved and files are read on these. A control group may have few threads.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|error| Failure::during("starting the async runtime", error))
}

/// The failure of a host that does not allow to watch network namespaces.
pub(crate) fn unwatchable(error: &io::Error) -> Failure {
    Failure::host(format!("watching network namespaces: {error}: needs CAP_NET_BROADCAST and CAP_SYS_ADMIN"))
}
