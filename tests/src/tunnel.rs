//! Tunnels between the two ends of a task's link, as overlay networks use them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::{
    lab::Lab,
    netns::Namespace,
    requires::Missing,
    tally::Tally,
    traffic::frames::LINK_HEADER,
    veth::{Addresses, Family, Interface, Mac, Task, ip_batch, silence},
};

/// A kind of tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// Arguments of `ip link` for it, without the addresses.
    pub words: &'static str,
    /// IP version of the outer packets.
    pub outside: Family,
    /// IP version of the inner packets.
    pub inside: Family,
    /// Bytes between the outer IP header and the inner packet.
    pub header: u64,
    /// True if it carries Ethernet frames.
    pub ethernet: bool,
}

impl Tunnel {
    const NAME: &str = "tunnel0";
    const MTU: u64 = 1500;
    const ADDRESSES: Addresses = {
        const fn v6(last: u16) -> Ipv6Addr {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 5, 0, 0, 0, last)
        }
        Addresses {
            inside: (Ipv4Addr::new(10, 0, 5, 128), v6(0x80)),
            outside: (Ipv4Addr::new(10, 0, 5, 9), v6(9)),
            name: Self::NAME,
            ipv6: true,
        }
    };

    /// Checks that this kernel supports the tunnel, by creating one in this namespace.
    pub fn is_known(&self, namespace: &Namespace) -> Result<(), Missing> {
        let [local, remote] = match self.outside {
            Family::V4 => ["192.0.2.1", "192.0.2.2"],
            Family::V6 => ["2001:db8::1", "2001:db8::2"],
        };
        let ends = self.ends(local.parse().ok(), remote.parse().ok());
        let name = Self::NAME;
        let lines = format!("link add {name} type {ends}\nlink del {name}\n");
        ip_batch(namespace, &lines)
            .map_err(|_| Missing::new(format!("a kernel with tunnels of the type {}", self.words)))
    }

    fn ends(&self, local: Option<IpAddr>, remote: Option<IpAddr>) -> String {
        // Geneve has no local address.
        let local = local.filter(|_| !self.words.starts_with("geneve"));
        let part = |name, address: Option<IpAddr>| {
            address.map_or(String::new(), |it| format!(" {name} {it}"))
        };
        format!("{}{}{}", self.words, part("local", local), part("remote", remote))
    }

    /// Creates a tunnel over a task's link. No packet has crossed it yet.
    pub fn through(&self, lab: &Lab, task: &Task) -> Result<Task> {
        let macs = [Mac::fresh(), Mac::fresh()];
        let end =
            |number: usize, name: &str, own: (Ipv4Addr, Ipv6Addr), other: (Ipv4Addr, Ipv6Addr)| {
                let mut ends = task.ends();
                ends.rotate_left(number);
                let [here, there] = ends;
                let ends =
                    self.ends(Some(here.address(self.outside)), Some(there.address(self.outside)));
                let (tunnel, mtu) = (Self::NAME, Self::MTU - self.overhead());
                let (mac, other_mac) = (macs[number], macs[1 - number]);
                let address = if self.ethernet { format!("address {mac} ") } else { String::new() };
                let neighbour = |to: IpAddr| {
                    if !self.ethernet {
                        return String::new();
                    }
                    format!("neigh replace {to} lladdr {other_mac} dev {tunnel} nud permanent\n")
                };
                let lines = [
                    format!("link add {tunnel} {address}mtu {mtu} type {ends}\n"),
                    if self.ethernet { silence(tunnel) } else { String::new() },
                    match self.inside {
                        Family::V4 => format!("addr add {}/24 dev {tunnel}\n", own.0),
                        Family::V6 => format!("addr add {}/64 dev {tunnel} nodad\n", own.1),
                    },
                    format!("link set {tunnel} up\n"),
                    match self.inside {
                        Family::V4 => neighbour(other.0.into()),
                        Family::V6 => neighbour(other.1.into()),
                    },
                ];
                ip_batch(here.namespace(), &lines.concat())?;
                let namespace =
                    here.namespace().also(&lab.path("peers").join(format!("tunnel-{name}")))?;
                let other = there.namespace().path().to_path_buf();
                Interface::new(namespace, tunnel, own, mac, other).map(Interface::into_tunnel)
            };
        let Addresses { inside, outside, .. } = Self::ADDRESSES;
        Ok(Task {
            inside: end(0, "inside", inside, outside)?,
            outside: end(1, "outside", outside, inside)?,
        })
    }

    /// Layer 3 bytes that the tunnel adds to a packet.
    pub fn overhead(&self) -> u64 {
        self.outside.header() + self.header + if self.ethernet { LINK_HEADER } else { 0 }
    }

    /// The outer traffic of `inside`.
    pub fn outside_of(&self, inside: Tally) -> Tally {
        Tally::new(inside.packets, inside.bytes + inside.packets * self.overhead())
    }
}
