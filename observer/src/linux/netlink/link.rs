//! Link messages: the kernel's description of an interface.

use super::{
    message::{Attributes, Malformed, printable, u32_at, u64_at},
    netns_id::NetnsId,
    unread::{self, Kind},
};

/// Length of `struct ifinfomsg`.
pub(super) const HEADER: usize = 16;

const INFO_KIND: u16 = 1;
/// `IFLA_XDP_PROG_ID` to `IFLA_XDP_HW_PROG_ID`.
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=7;

/// Device counters of an interface: received (index 0) and sent (index 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames. A super-packet may count as one.
    pub frames: [u64; 2],
    /// Bytes, including link headers.
    pub bytes: [u64; 2],
}

/// An interface. Attributes that the kernel did not send, or that cannot be read, are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Index within its namespace.
    pub index: u32,
    /// `AF_UNSPEC`, or `AF_BRIDGE` if the message is about a bridge port.
    pub family: u8,
    /// `ARPHRD_…`: format of its frames.
    pub layer: u16,
    /// `IFF_…`.
    pub flags: u32,
    /// Name. Bytes that are not UTF-8 are written as `\xNN`.
    pub name: Box<str>,
    /// Hardware address, of any length.
    pub address: Option<Box<[u8]>>,
    /// Permanent hardware address of the device.
    pub permanent_address: Option<Box<[u8]>>,
    /// MTU: maximum layer 3 bytes in a frame.
    pub mtu: Option<u32>,
    /// Index of the bridge, bond or VRF to which it belongs.
    pub controller: Option<u32>,
    /// Kind of a virtual device: `veth`, `vlan`, …
    pub kind: Option<Box<str>>,
    /// Index of its veth peer, or of the device below it.
    pub other: Option<u32>,
    /// Namespace of the device `other`; `None` if it is the same.
    pub other_netns: Option<NetnsId>,
    /// Kind of its root qdisc.
    pub qdisc: Option<Box<str>>,
    /// Device counters.
    pub counters: Option<LinkCounters>,
    /// IDs of attached XDP programs.
    pub xdp: Vec<u32>,
}

impl Link {
    /// Reads the payload of a link message. Returns `None` if the index cannot be read. Unreadable
    /// attributes are counted and skipped.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (Some(index), Some(flags)) = (u32_at(payload, 4), u32_at(payload, 8)) else {
            unread::count(Kind::Link, payload);
            return None;
        };
        let layer = u16::from_ne_bytes([payload[2], payload[3]]);
        let mut link = Self { index, family: payload[0], layer, flags, ..Self::default() };
        if link.take_all(payload.get(HEADER..).unwrap_or_default()).is_err() || link.name.is_empty()
        {
            unread::count(Kind::Link, payload);
        }
        if link.name.is_empty() {
            link.name = format!("#{index}").into();
        }
        Some(link)
    }

    /// Sets fields from attributes. Returns the first error, but reads all attributes.
    fn take_all(&mut self, attributes: &[u8]) -> Result<(), Malformed> {
        let mut result = Ok(());
        for attribute in Attributes::of(attributes) {
            result = result.and(attribute.and_then(|(kind, value)| self.take(kind, value)));
        }
        result
    }

    /// Sets a field from an attribute.
    fn take(&mut self, kind: u16, value: &[u8]) -> Result<(), Malformed> {
        let number = || u32_at(value, 0).ok_or(Malformed);
        match kind {
            libc::IFLA_IFNAME => self.name = printable(value).into(),
            libc::IFLA_ADDRESS => self.address = Some(value.into()),
            libc::IFLA_PERM_ADDRESS => self.permanent_address = Some(value.into()),
            libc::IFLA_MTU => self.mtu = Some(number()?),
            libc::IFLA_MASTER => self.controller = Some(number()?),
            libc::IFLA_LINK => self.other = Some(number()?),
            libc::IFLA_LINK_NETNSID => self.other_netns = Some(number()? as NetnsId),
            libc::IFLA_QDISC => self.qdisc = Some(printable(value).into()),
            libc::IFLA_STATS64 => self.counters = Some(counters(value).ok_or(Malformed)?),
            libc::IFLA_LINKINFO => {
                for inner in Attributes::of(value) {
                    let (kind, value) = inner?;
                    if kind == INFO_KIND {
                        self.kind = Some(printable(value).into());
                    }
                }
            }
            libc::IFLA_XDP => {
                for inner in Attributes::of(value) {
                    let (kind, value) = inner?;
                    if XDP_PROGRAMS.contains(&kind) {
                        self.xdp.push(u32_at(value, 0).ok_or(Malformed)?);
                    }
                }
                self.xdp.retain(|id| *id != 0);
                self.xdp.sort_unstable();
                self.xdp.dedup();
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads the beginning of `struct rtnl_link_stats64`.
fn counters(value: &[u8]) -> Option<LinkCounters> {
    let number = |index: usize| u64_at(value, index * 8);
    Some(LinkCounters { frames: [number(0)?, number(1)?], bytes: [number(2)?, number(3)?] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::message::{Messages, Request};

    fn header(index: u32) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[2..4].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header
    }

    fn read(request: Request) -> Option<Link> {
        let bytes = request.finish(1);
        Link::read(Messages::of(&bytes).next().unwrap().unwrap().payload)
    }

    #[test]
    fn names_of_any_bytes_leave_the_rest_as_it_is() {
        let stats: Vec<u8> =
            [1_u64, 2, 3, 4, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let link = read(
            Request::new(libc::RTM_NEWLINK, 0, &header(7))
                .with(libc::IFLA_IFNAME, b"caf\xe9\0")
                .with(libc::IFLA_IFALIAS, b"\xff\xfe")
                .with_nested(libc::IFLA_PROP_LIST, &[(libc::IFLA_ALT_IFNAME, b"\x80\x81\0")])
                .with(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1])
                .with(libc::IFLA_MASTER, &3_u32.to_ne_bytes())
                .with(libc::IFLA_LINK, &9_u32.to_ne_bytes())
                .with(libc::IFLA_LINK_NETNSID, &0_u32.to_ne_bytes())
                .with(libc::IFLA_STATS64, &stats)
                .with(libc::IFLA_QDISC, b"noqueue\0")
                .with_nested(libc::IFLA_LINKINFO, &[(1, b"veth\0")])
                .with_nested(
                    libc::IFLA_XDP,
                    &[(2, &[2]), (4, &5_u32.to_ne_bytes()), (6, &5_u32.to_ne_bytes())],
                ),
        );
        let expected = Link {
            index: 7,
            layer: libc::ARPHRD_ETHER,
            name: "caf\\xe9".into(),
            address: Some([2, 0, 0, 0, 0, 1].into()),
            controller: Some(3),
            kind: Some("veth".into()),
            other: Some(9),
            other_netns: Some(0),
            qdisc: Some("noqueue".into()),
            counters: Some(LinkCounters { frames: [1, 2], bytes: [3, 4] }),
            xdp: vec![5],
            ..Link::default()
        };
        assert_eq!(link, Some(expected));
    }

    #[test]
    fn unreadable_attributes_are_counted_and_skipped() {
        let before = unread::unread(Kind::Link);
        // An attribute with a wrong length, and a truncated one at the end.
        let mut bytes = Request::new(libc::RTM_NEWLINK, 0, &header(7))
            .with(libc::IFLA_MASTER, &[1])
            .with(libc::IFLA_IFNAME, b"eth0\0")
            .with(libc::IFLA_MTU, &1500_u32.to_ne_bytes())
            .finish(1);
        bytes.extend([200, 0, 1, 0]);
        let link = Link::read(&bytes[super::super::message::HEADER..]).unwrap();
        assert_eq!((&*link.name, link.mtu, link.controller), ("eth0", Some(1500), None));
        assert_eq!(unread::unread(Kind::Link), before + 1);
        // A link without a name is named by its index.
        let nameless = read(Request::new(libc::RTM_NEWLINK, 0, &header(8))).unwrap();
        assert_eq!(&*nameless.name, "#8");
        assert_eq!(Link::read(&[0; 7]), None);
        assert_eq!(unread::unread(Kind::Link), before + 3);
    }
}
