//! Pins of the links to interfaces, by which one run of the daemon takes over from another.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use observer_ebpf::abi::Direction;

use super::{
    bpffs::entries,
    clsact::remove_filters,
    link, syscall,
    xdp::{XdpMode, XdpPlan},
};
use crate::{flow::InterfaceNumber, linux::netns::Netns};

/// Pins of the links to one interface.
#[derive(Clone, Debug)]
pub struct LinkPins {
    directory: PathBuf,
    number: u16,
    /// True if an earlier run has attached its programs to the same interface under this number.
    continues: bool,
    /// Handle of the filters of this daemon.
    handle: u16,
}

impl LinkPins {
    /// Pins of the interface with this number, in the directory of all links. `continues` is true if
    /// an earlier run has attached its programs to the same interface under this number. `handle` is
    /// that of its filters, if it has used clsact.
    pub fn new(
        directory: &Path,
        (number, continues): (InterfaceNumber, bool),
        handle: u16,
    ) -> Self {
        Self { directory: directory.to_path_buf(), number: number.get(), continues, handle }
    }

    /// ID of the XDP program that an earlier run has attached to the interface.
    pub fn xdp_program(&self) -> Option<u32> {
        let modes = [XdpMode::Native, XdpMode::Generic].into_iter().filter(|_| self.continues);
        modes
            .filter_map(|mode| syscall::pinned(&self.xdp(mode)).ok())
            .find_map(|link| syscall::link_info(&link).ok())
            .map(|link| link.program)
    }

    /// Removes the pins in a directory that belong to none of these numbers.
    pub fn remove_others(directory: &Path, numbers: &BTreeSet<InterfaceNumber>) {
        for path in entries(directory) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.split('-').next().and_then(|number| number.parse().ok());
            if !number.is_some_and(|number| numbers.contains(&InterfaceNumber::new(number))) {
                link::unpin(&path);
            }
        }
    }

    /// Detaches the programs of an earlier run that those of this one cannot replace in place,
    /// because the settings have changed. First, so that no packet is counted twice. `by_tcx` is true
    /// if this run attaches TC programs by TCX links.
    pub(super) fn prepare(
        &self,
        netns: &Netns,
        (ifindex, by_tcx): (u32, bool),
        plan: Option<XdpPlan>,
    ) {
        if !self.continues {
            self.remove();
            return;
        }
        let mode = plan.map(|plan| plan.mode);
        for other in [XdpMode::Native, XdpMode::Generic] {
            if Some(other) != mode {
                link::unpin(&self.xdp(other));
            }
        }
        if plan.is_some_and(|plan| !plan.companion) || !by_tcx {
            link::unpin(&self.tc(Direction::Ingress));
        }
        if by_tcx {
            if self.filters().exists() {
                // It may have been removed by others, or with its interface.
                let _ = remove_filters(netns, ifindex, self.handle);
                let _ = fs::remove_dir(self.filters());
            }
        } else {
            link::unpin(&self.tc(Direction::Egress));
        }
    }

    /// Notes that the interface has filters of this daemon. `added` is true if the daemon has added
    /// their qdisc. Returns true if this or an earlier run has.
    pub(super) fn put_filters(&self, added: bool) -> bool {
        let _ = fs::create_dir(self.filters());
        if added {
            let _ = fs::create_dir(self.qdisc());
        }
        self.qdisc().exists()
    }

    /// Removes all pins, so that programs attached by links are detached.
    pub(super) fn remove(&self) {
        for path in [
            self.tc(Direction::Ingress),
            self.tc(Direction::Egress),
            self.xdp(XdpMode::Native),
            self.xdp(XdpMode::Generic),
            self.filters(),
            self.qdisc(),
        ] {
            link::unpin(&path);
        }
    }

    /// Pin of a TCX link.
    pub(super) fn tc(&self, direction: Direction) -> PathBuf {
        self.of(direction.as_str())
    }

    /// Pin of an XDP link.
    pub(super) fn xdp(&self, mode: XdpMode) -> PathBuf {
        self.of(match mode {
            XdpMode::Native => "xdp_native",
            XdpMode::Generic => "xdp_generic",
        })
    }

    /// A directory that stands for filters: a BPF file system holds no files.
    fn filters(&self) -> PathBuf {
        self.of("filters")
    }

    /// A directory that stands for a qdisc that the daemon has added.
    fn qdisc(&self) -> PathBuf {
        self.of("qdisc")
    }

    fn of(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}-{kind}", self.number))
    }
}
