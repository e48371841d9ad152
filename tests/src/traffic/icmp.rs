use std::{
    fs::File,
    io::{self, Read as _},
    mem,
    net::IpAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::checksum::checksum;
use crate::{
    poll::stretched,
    tally::Tally,
    veth::{Family, Interface},
};

const HEADER: usize = 8;

/// Result of [`ping`].
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// Echo requests; the replies add up to the same.
    pub each_way: Tally,
    /// ICMP type of the requests.
    pub request: u8,
    /// ICMP type of the answers.
    pub reply: u8,
    /// Protocol number.
    pub protocol: u8,
}

/// Sends `count` echo requests of `payload` bytes, one at a time, and waits for each reply.
pub fn ping(
    from: &Interface,
    to: &Interface,
    family: Family,
    count: u16,
    payload: usize,
) -> Result<Pings> {
    let (domain, protocol, request, reply) = match family {
        Family::V4 => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        Family::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    let socket = from.namespace().run(|| {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        ensure!(fd >= 0, "a raw ICMP socket: {}", io::Error::last_os_error());
        // SAFETY: a descriptor that the kernel has just given us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })?;
    let patience = stretched(Duration::from_secs(5));
    let patience = libc::timeval { tv_sec: patience.as_secs() as libc::time_t, tv_usec: 0 };
    // SAFETY: the option is a `timeval`, which outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of_val(&patience) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "SO_RCVTIMEO: {}", io::Error::last_os_error());
    let mut answers = File::from(socket.try_clone()?);
    for number in 0..count {
        let mut message = vec![0_u8; HEADER + payload];
        message[0] = request;
        // A non-zero identifier: Linux computes a checksum that it refuses itself for a reply of
        // zeros only.
        message[5] = 1;
        message[6..8].copy_from_slice(&number.to_be_bytes());
        let sum = checksum(&message);
        // For ICMPv6 the kernel computes the checksum.
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        send(&socket, &message, to.address(family))?;
        let mut answer = vec![0_u8; 2048];
        loop {
            let len = answers.read(&mut answer).with_context(|| format!("answer {number}"))?;
            // An IPv4 raw socket also receives the IP header.
            let message =
                if family == Family::V4 { answer.get(20..len) } else { answer.get(..len) };
            let message = message.context("an answer without a header")?;
            if message.first() == Some(&reply) && message.get(6..8) == Some(&number.to_be_bytes()) {
                break;
            }
        }
    }
    let each = family.header() + (HEADER + payload) as u64;
    Ok(Pings { each_way: Tally::of(count.into(), each), request, reply, protocol: protocol as u8 })
}

fn send(socket: &OwnedFd, message: &[u8], to: IpAddr) -> Result<()> {
    let sent = match to {
        IpAddr::V4(address) => {
            // SAFETY: zeros are a valid address.
            let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
            sendto(socket, message, &name)
        }
        IpAddr::V6(address) => {
            // SAFETY: zeros are a valid address.
            let mut name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_addr.s6_addr = address.octets();
            sendto(socket, message, &name)
        }
    };
    if sent != message.len() as isize {
        bail!("sending an echo request to {to}: {}", io::Error::last_os_error());
    }
    Ok(())
}

fn sendto<T>(socket: &OwnedFd, message: &[u8], name: &T) -> isize {
    // SAFETY: message and address are as long as stated and outlive the call.
    unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
            (&raw const *name).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    }
}
