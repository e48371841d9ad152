//! Network interfaces on this host and their ECS tasks.
//!
//! Owns: the network namespaces and interfaces that exist, the choice of interfaces to observe, and
//! their identities. In: links and addresses from the kernel, tasks from the sources. Out:
//! [`Observed`] interfaces, the whole list at each change. Does not depend on programs or flows.
//!
//! Only the kernel decides which interfaces exist. Sources add names; no source can create or
//! remove an interface.

mod arn;
mod board;
mod folders;
#[cfg(test)]
pub(crate) mod hostile;
mod identity;
mod interface;
mod knowledge;
mod namespace;
mod namespaces;
mod netns_files;
mod observed;
mod paths;
mod processes;
mod report;
mod resolve;
mod selection;
mod snapshot;
mod sources;
mod view;
mod watch;
mod watch_handle;
mod watch_update;

pub use board::Board;
pub use identity::{Attribute, Conflict, Fact, Identity, Source};
pub(crate) use identity::{one_word, printable};
pub use interface::{Interface, LinkKind, Mac, OtherDevice, ParseMacError, mac_of};
pub use observed::{Appeared, InterfaceKey, Observed};
pub use processes::{PROC, container_in};
pub use report::Report;
pub use snapshot::AttachState;
pub use sources::{
    ApiOptions, Endpoint, SourceObserver, SourceOptions, State, TasksFile, TasksFileError,
};
pub use watch::{Watch, WatchOptions};
pub use watch_handle::WatchHandle;
pub use watch_update::{InterfaceSet, WatchUpdate};
