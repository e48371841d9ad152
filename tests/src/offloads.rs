//! Segmentation and merging by the interface, as `ethtool -K` switches them.

use std::{mem, net::UdpSocket, os::fd::AsRawFd as _};

use anyhow::{Result, bail, ensure};
use nix::net::if_::InterfaceFlags;

use crate::{requires, veth::Interface};

/// Which offloads an interface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// The interface takes TCP super-packets as they are.
    pub tso: bool,
    /// The interface may be given super-packets of other protocols.
    pub gso: bool,
    /// Received segments are merged before the ingress hook.
    pub gro: bool,
}

impl Offloads {
    /// How a veth is born.
    pub const VETH: Self = Self { tso: true, gso: true, gro: false };
    /// Every packet for itself on the wire and at the ingress hook. TCP hands super-packets to the egress hook all the
    /// same, and they are segmented behind it.
    pub const NONE: Self = Self { tso: false, gso: false, gro: false };
    /// The same, but for protocols other than TCP.
    pub const SOFTWARE: Self = Self { tso: false, gso: true, gro: false };
    /// Segments on the wire, super-packets at the other hook.
    pub const MERGED: Self = Self { tso: false, gso: false, gro: true };

    /// Whether received segments are merged: before Linux 5.13 a veth does not without XDP, whatever it is told.
    pub fn merges(self) -> bool {
        self.gro && requires::linux(5, 13).is_ok()
    }

    /// Whether a veth takes UDP super-packets as they are, which no switch says: since Linux 5.11 with [`Self::VETH`].
    pub fn veth_takes_udp() -> bool {
        requires::linux(5, 11).is_ok()
    }

    /// Switches them on `interface`.
    pub fn apply(self, interface: &Interface) -> Result<()> {
        const SET_TSO: u32 = 0x1f;
        const SET_GSO: u32 = 0x24;
        const SET_GRO: u32 = 0x2c;
        interface.namespace().run(|| {
            for (command, on) in [(SET_GSO, self.gso), (SET_TSO, self.tso), (SET_GRO, self.gro)] {
                ethtool(interface.name(), command, on)?;
            }
            for (command, on) in [(SET_GSO - 1, self.gso), (SET_TSO - 1, self.tso), (SET_GRO - 1, self.gro)] {
                let is = ethtool(interface.name(), command, false)?;
                ensure!(is == on, "ethtool command {command:#x} of {}: is {is}, not {on}", interface.name());
            }
            Ok(())
        })
    }
}

/// Whether the interface of this thread's namespace runs: the kernel tells its users so up to a second after the
/// carrier came, unless it is asked, and sends nothing before.
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

/// Sets or gets one flag; a command to get gives its value.
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
    // Any socket of the namespace does.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request names a value that outlives the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) } < 0 {
        bail!("ethtool command {command:#x} of {name}: {}", std::io::Error::last_os_error());
    }
    Ok(value.data != 0)
}
