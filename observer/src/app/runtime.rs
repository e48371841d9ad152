//! The async runtime, and the failure to watch network namespaces.

use std::io;

use tokio::runtime::Runtime;

use crate::failure::Failure;

pub(crate) fn async_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // These threads resolve names and read files. A control group may allow few threads.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|error| Failure::during("starting the async runtime", error))
}

/// Failure of a host that does not allow watching network namespaces.
pub(crate) fn unwatchable(error: &io::Error) -> Failure {
    Failure::host(format!(
        "watching network namespaces: {error}: needs CAP_NET_BROADCAST and CAP_SYS_ADMIN"
    ))
}
