//! Removal of everything that a killed daemon has left in the kernel.

use std::io;

use super::{directories, options};
use crate::{
    config::Config,
    failure::Failure,
    kernel::{bpffs::PinDirectory, remove_filters},
    linux::{netlink::Netlink, netns::Netns},
};

/// Detaches the programs of an earlier run from all interfaces, and removes its maps. Fails if the
/// daemon runs.
pub(crate) fn detach(config: &Config) -> Result<(), Failure> {
    let host = &config.settings.host;
    let _lock = directories::lock(&host.state_dir)?;
    let pins = PinDirectory::create(&config.settings.kernel.bpffs, &host.state_dir)?;
    pins.remove_all();
    // The kernel version, and so the way of attaching, may have changed since. The handle has not.
    let handle = options::filter_handle(config);
    for netns in Netns::all() {
        match remove_all(&netns, handle) {
            // The namespace is gone by now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::running(format!(
                    "detaching from the interfaces of {}: {error}",
                    netns.path.display()
                )));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn remove_all(netns: &Netns, handle: u16) -> io::Result<()> {
    let links = netns.inside(|| Netlink::new()?.links(None))??;
    links.iter().try_for_each(|link| remove_filters(netns, link.index, handle))
}
