//! ICMP echo over raw sockets, because a minimal Debian has no `ping`.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Instant,
};

use anyhow::{Result, bail};
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
        setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};

use super::timeout::TIMEOUT;
use crate::demo::namespace::Namespace;

/// Payload in bytes, as `ping` sends by default.
const PAYLOAD: usize = 56;

/// Differences between ICMP and ICMPv6.
#[derive(Debug, Clone, Copy)]
struct Kind {
    family: AddressFamily,
    protocol: SockProtocol,
    request: u8,
    reply: u8,
    /// Bytes of IP header at the beginning of received data.
    before: usize,
}

const V4: Kind = Kind {
    family: AddressFamily::Inet,
    protocol: SockProtocol::Icmp,
    request: 8,
    reply: 0,
    before: 20,
};
const V6: Kind = Kind {
    family: AddressFamily::Inet6,
    protocol: SockProtocol::IcmpV6,
    request: 128,
    reply: 129,
    before: 0,
};

/// Sends echo requests, one at a time, and waits for each reply.
pub(super) fn ping(from: &Namespace, to: IpAddr, count: u16) -> Result<()> {
    let kind = if to.is_ipv4() { V4 } else { V6 };
    let socket = from.run(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(socket(kind.family, SockType::Raw, flags, kind.protocol)?)
    })?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT.as_secs() as i64))?;
    for number in 1..=count {
        let to = SockaddrStorage::from(SocketAddr::new(to, 0));
        sendto(socket.as_raw_fd(), &request(kind, number), &to, MsgFlags::empty())?;
        await_reply(&socket, kind, number)?;
    }
    Ok(())
}

fn request(kind: Kind, number: u16) -> Vec<u8> {
    let mut message = vec![0; 8 + PAYLOAD];
    message[0] = kind.request;
    message[6..8].copy_from_slice(&number.to_be_bytes());
    // For ICMPv6 the kernel computes the checksum, which covers the addresses too.
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Waits for one reply. A raw socket receives every packet of its protocol.
fn await_reply(socket: &OwnedFd, kind: Kind, number: u16) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut packet = [0; 1500];
    while Instant::now() < deadline {
        let length = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())?;
        let message = packet.get(kind.before..length).unwrap_or_default();
        if message.first() == Some(&kind.reply) && message.get(6..8) == Some(&number.to_be_bytes())
        {
            return Ok(());
        }
    }
    bail!("no reply to echo request {number}")
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksum_of_the_example_in_rfc_1071() {
        assert_eq!(super::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
