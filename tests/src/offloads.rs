//! Segmentation and merging by the network interface, as `ethtool -K` sets them.

use std::{mem, net::UdpSocket, os::fd::AsRawFd as _};

use anyhow::{Result, bail, ensure};
use nix::net::if_::InterfaceFlags;

use crate::{netns::Namespace, requires};

/// The offloads of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// The interface sends TCP super-packets unsegmented.
    pub tso: bool,
    /// The stack may pass super-packets of other protocols to the interface.
    pub gso: bool,
    /// Received segments are merged before the ingress hook.
    pub gro: bool,
}

impl Offloads {
    /// Defaults of a veth.
    pub const VETH: Self = Self { tso: true, gso: true, gro: false };
    /// No super-packets on the wire and at the ingress hook. The egress hook still sees TCP
    /// super-packets, which are segmented behind it.
    pub const NONE: Self = Self { tso: false, gso: false, gro: false };
    /// The same as [`Self::NONE`], except that protocols other than TCP pass super-packets to the
    /// interface.
    pub const SOFTWARE: Self = Self { tso: false, gso: true, gro: false };
    /// Segments on the wire, super-packets at the ingress hook of the receiver.
    pub const MERGED: Self = Self { tso: false, gso: false, gro: true };

    /// True if received segments are merged. Before Linux 5.13 a veth without XDP does not merge.
    pub fn merges(self) -> bool {
        self.gro && requires::linux(5, 13).is_ok()
    }

    /// True if a veth sends UDP super-packets unsegmented: since Linux 5.11 with [`Self::VETH`]. No
    /// `ethtool` flag shows it.
    pub fn veth_takes_udp() -> bool {
        requires::linux(5, 11).is_ok()
    }

    /// Sets the offloads of the interface `name` of a namespace, and reads them back.
    pub fn apply(self, namespace: &Namespace, name: &str) -> Result<()> {
        const SET_TSO: u32 = 0x1f;
        const SET_GSO: u32 = 0x24;
        const SET_GRO: u32 = 0x2c;
        namespace.run(|| {
            for (command, on) in [(SET_GSO, self.gso), (SET_TSO, self.tso), (SET_GRO, self.gro)] {
                ethtool(name, command, on)?;
            }
            for (command, on) in
                [(SET_GSO - 1, self.gso), (SET_TSO - 1, self.tso), (SET_GRO - 1, self.gro)]
            {
                let is = ethtool(name, command, false)?;
                ensure!(is == on, "ethtool command {command:#x} of {name}: is {is}, not {on}");
            }
            Ok(())
        })
    }
}

/// True if the interface in this thread's namespace is running. Asking for the link makes the
/// kernel notice the carrier at once instead of within a second.
pub(crate) fn is_running(name: &str) -> Result<bool> {
    const GET_LINK: u32 = 0x0a;
    ethtool(name, GET_LINK, false)?;
    let mut addresses = nix::ifaddrs::getifaddrs()?;
    let running = InterfaceFlags::IFF_RUNNING;
    Ok(addresses.any(|entry| entry.interface_name == name && entry.flags.contains(running)))
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Sets or gets a flag; returns its value.
fn ethtool(name: &str, command: u32, on: bool) -> Result<bool> {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    let mut value = EthtoolValue { command, data: u32::from(on) };
    // SAFETY: zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        bail!("{name} is no interface name");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // Any socket of the namespace serves.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request names a value that outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) } < 0 {
        bail!("ethtool command {command:#x} of {name}: {}", std::io::Error::last_os_error());
    }
    Ok(value.data != 0)
}
