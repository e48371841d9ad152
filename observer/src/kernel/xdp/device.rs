//! Properties of an interface that decide how XDP can be attached to it.

use std::{collections::BTreeSet, io, os::fd::AsFd};

use aya::programs::loaded_programs;

use crate::{
    kernel::{KernelError, namespace::inside},
    linux::{
        ethtool::{self, Channels},
        netlink::{Link, Netlink},
        netns::Netns,
    },
};

/// Name of the GRO offload.
pub(super) const GRO: &str = "rx-gro";

/// Properties of an interface.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) kind: DeviceKind,
    /// Frames have an Ethernet header.
    pub(super) ethernet: bool,
    /// Name of the driver; empty if the driver gives none.
    pub(super) driver: String,
    /// MTU in bytes.
    pub(super) mtu: u32,
    /// Offloads that are on, by their names in `ethtool -k`.
    pub(super) features: BTreeSet<String>,
    pub(super) channels: Channels,
    /// Attached XDP programs, as messages name them.
    pub(super) programs: Vec<String>,
}

/// Kinds of interfaces with different rules for XDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    /// A network card, physical or virtual.
    Card,
    /// One end of a veth pair. The peer is `None` if its namespace was not found.
    Veth { peer: Option<Peer> },
    /// Any other virtual device. None of them has a useful native mode.
    Other,
}

/// Other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Offloads that are on.
    pub(super) features: BTreeSet<String>,
    pub(super) channels: Channels,
}

impl Peer {
    /// Reads the peer in the namespace of the calling thread.
    fn read_here(ifindex: u32) -> io::Result<Self> {
        let name = ethtool::name(ifindex)?;
        Ok(Self {
            features: ethtool::features(name)?,
            channels: ethtool::channels(name).unwrap_or_default(),
        })
    }

    /// Segmentation offloads that are on. With them the peer sends super-packets unsegmented.
    pub(super) fn segmentation(&self) -> Vec<&str> {
        self.features.iter().map(String::as_str).filter(|it| is_segmentation(it)).collect()
    }
}

/// Returns whether a feature is in `NETIF_F_GSO_SOFTWARE`, the set that a veth switches off on its
/// peer when it takes an XDP program. The program then sees the segments.
fn is_segmentation(feature: &str) -> bool {
    feature.starts_with("tx-tcp") && feature.ends_with("segmentation")
        || matches!(feature, "tx-sctp-segmentation" | "tx-udp-segmentation" | "tx-gso-list")
}

impl Device {
    /// Reads the properties of an interface, and of its peer if it is one end of a veth pair.
    pub(super) fn read(
        netns: &Netns,
        ifindex: u32,
        ethernet: bool,
        own: Option<u32>,
    ) -> Result<Self, KernelError> {
        let (mut device, peer) =
            inside(netns, || Self::read_here(netns, (ifindex, ethernet), own))??;
        if let Some((netns, ifindex)) = peer
            && let Ok(Ok(peer)) = netns.inside(|| Peer::read_here(ifindex))
        {
            device.kind = DeviceKind::Veth { peer: Some(peer) };
        }
        Ok(device)
    }

    /// Reads the properties on a thread inside `netns`. Also returns the namespace and index of a
    /// veth peer.
    fn read_here(
        netns: &Netns,
        (ifindex, ethernet): (u32, bool),
        own: Option<u32>,
    ) -> Result<(Self, Option<(Netns, u32)>), KernelError> {
        let failed = |error| KernelError::call(format!("examining interface {ifindex}"), error);
        let mut netlink = Netlink::new().map_err(failed)?;
        let gone = |error: io::Error| match error.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => KernelError::InterfaceGone(ifindex),
            _ => failed(error),
        };
        let link = netlink.link(ifindex).map_err(gone)?;
        let name = ethtool::name(ifindex).map_err(gone)?;
        let kind = match link.kind.as_deref() {
            None => DeviceKind::Card,
            Some("veth") => DeviceKind::Veth { peer: None },
            Some(_) => DeviceKind::Other,
        };
        let peer = match kind {
            DeviceKind::Veth { .. } => find_peer(&mut netlink, netns, &link),
            DeviceKind::Card | DeviceKind::Other => None,
        };
        let device = Self {
            kind,
            ethernet,
            // A driver need not answer.
            driver: ethtool::driver(name).unwrap_or_default(),
            mtu: link.mtu.unwrap_or(0),
            features: ethtool::features(name).map_err(failed)?,
            channels: ethtool::channels(name).unwrap_or_default(),
            programs: (link.xdp.iter().filter(|id| Some(**id) != own))
                .map(|id| program_name(*id))
                .collect(),
        };
        Ok((device, peer))
    }
}

/// Describes an XDP program by its ID and name.
fn program_name(id: u32) -> String {
    let program = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    let name =
        program.and_then(|program| program.name_as_str().map(str::to_owned)).unwrap_or_default();
    if name.is_empty() { format!("XDP program {id}") } else { format!("XDP program {id} ({name})") }
}

/// Finds the namespace and index of a veth peer. `netlink` is a socket in `netns`, the namespace of
/// `link`.
fn find_peer(netlink: &mut Netlink, netns: &Netns, link: &Link) -> Option<(Netns, u32)> {
    let netns = match link.other_netns {
        None => netns.clone(),
        Some(number) => Netns::all().into_iter().find(|netns| {
            let id = netns.open().and_then(|file| netlink.netns_id_if_any(file.as_fd()));
            matches!(id, Ok(Some(id)) if id == number)
        })?,
    };
    Some((netns, link.other?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segmentation_offloads_are_those_that_a_veth_switches_off() {
        for on in [
            "tx-tcp-segmentation",
            "tx-tcp6-segmentation",
            "tx-tcp-ecn-segmentation",
            "tx-gso-list",
        ] {
            assert!(is_segmentation(on), "{on}");
        }
        for on in ["tx-generic-segmentation", "tx-gre-segmentation", "tx-checksum-ip-generic"] {
            assert!(!is_segmentation(on), "{on}");
        }
    }
}
