//! Interfaces of the operating system that several rooms use.
//!
//! Owns: their calls, and the decoding of the answers. In: a namespace, an interface's index. Out:
//! typed answers. Imports no other room.
//!
//! - [`access`]: modes of files and folders
//! - [`netns`]: network namespaces
//! - [`netlink`]: messages of rtnetlink
//! - [`ethtool`]: driver, queues and offloads of a device
//! - [`cgroup`]: control groups by ID
//! - [`clock`]: the time of day

pub mod access;
pub mod cgroup;
pub mod clock;
pub mod ethtool;
pub mod netlink;
pub mod netns;
