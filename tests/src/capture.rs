//! Capture files in every format, and captures of an interface's traffic.

use std::{
    io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Result, bail, ensure};

use crate::{tally::Direction, veth::Interface};

/// `LINKTYPE_ETHERNET`.
pub const ETHERNET: u16 = 1;

/// A packet of a capture.
#[derive(Clone, Debug)]
pub struct Packet {
    /// UNIX nanoseconds.
    pub time_ns: u64,
    /// The captured bytes.
    pub bytes: Vec<u8>,
    /// Original length, in bytes.
    pub len: u32,
    /// Direction, if the capture has it.
    pub direction: Option<Direction>,
    /// Index of its interface in the file.
    pub interface: u32,
}

impl Packet {
    /// A complete packet of the first interface.
    pub fn new(time_ns: u64, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u32;
        Self { time_ns, bytes, len, direction: None, interface: 0 }
    }

    /// The same packet, truncated to `len` bytes by a snap length.
    #[must_use]
    pub fn cut(mut self, len: usize) -> Self {
        self.bytes.truncate(len);
        self
    }
}

/// The byte order of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Little-endian, as on x86.
    Little,
    /// Big-endian, as in network protocols.
    Big,
}

impl Order {
    /// Both byte orders.
    pub const ALL: [Self; 2] = [Self::Little, Self::Big];

    fn u16(self, value: u16) -> [u8; 2] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }

    fn u64(self, value: u64) -> [u8; 8] {
        if self == Self::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    }
}

/// A pcap file, with times in nanoseconds or in microseconds.
pub fn pcap(order: Order, link_type: u16, nanoseconds: bool, packets: &[Packet]) -> Vec<u8> {
    let (magic, unit) = if nanoseconds { (0xa1b2_3c4d, 1) } else { (0xa1b2_c3d4, 1000) };
    let mut file = Vec::new();
    file.extend(order.u32(magic));
    file.extend([order.u16(2), order.u16(4)].concat());
    file.extend([0, 0, 262_144, link_type.into()].map(|word| order.u32(word)).concat());
    for packet in packets {
        let seconds = (packet.time_ns / 1_000_000_000) as u32;
        let fraction = (packet.time_ns % 1_000_000_000) as u32 / unit;
        let header = [seconds, fraction, packet.bytes.len() as u32, packet.len];
        file.extend(header.map(|word| order.u32(word)).concat());
        file.extend(&packet.bytes);
    }
    file
}

/// An interface of a pcapng file.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name; empty for none.
    pub name: &'static str,
    /// `LINKTYPE_` number.
    pub link_type: u16,
    /// `if_tsresol`; microseconds if there is none.
    pub resolution: Option<u8>,
    /// `if_tsoffset`, in seconds.
    pub offset: i64,
}

impl Description {
    /// An Ethernet interface with times in microseconds.
    pub const fn new(name: &'static str) -> Self {
        Self { name, link_type: ETHERNET, resolution: None, offset: 0 }
    }

    /// Converts a time to the units of the interface.
    fn ticks(&self, time_ns: u64) -> u64 {
        let resolution = self.resolution.unwrap_or(6);
        let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
        let since = i128::from(time_ns) - i128::from(self.offset) * 1_000_000_000;
        (since as u128 * base.pow(u32::from(resolution & 0x7f)) / 1_000_000_000) as u64
    }
}

/// A section of a pcapng file, which is also a complete file.
pub fn pcapng(order: Order, interfaces: &[Description], packets: &[Packet]) -> Vec<u8> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const PACKET: u32 = 6;
    let header = [&order.u32(0x1a2b_3c4d)[..], &order.u16(1), &order.u16(0), &[0xff; 8]].concat();
    let mut file = block(order, SECTION, &header);
    for interface in interfaces {
        let mut body = [&order.u16(interface.link_type)[..], &order.u16(0), &order.u32(0)].concat();
        if !interface.name.is_empty() {
            body.extend(option(order, 2, interface.name.as_bytes()));
        }
        if let Some(resolution) = interface.resolution {
            body.extend(option(order, 9, &[resolution]));
        }
        if interface.offset != 0 {
            body.extend(option(order, 14, &order.u64(interface.offset as u64)));
        }
        file.extend(block(order, INTERFACE, &body));
    }
    for packet in packets {
        let ticks =
            interfaces.get(packet.interface as usize).map_or(0, |it| it.ticks(packet.time_ns));
        let words = [
            packet.interface,
            (ticks >> 32) as u32,
            ticks as u32,
            packet.bytes.len() as u32,
            packet.len,
        ];
        let mut body = words.map(|word| order.u32(word)).concat();
        body.extend(padded(&packet.bytes));
        if let Some(direction) = packet.direction {
            body.extend(option(order, 2, &order.u32(1 + direction as u32)));
        }
        file.extend(block(order, PACKET, &body));
    }
    file
}

/// A block of pcapng.
pub fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let len = order.u32(body.len() as u32 + 12);
    [&order.u32(kind)[..], &len, body, &len].concat()
}

/// An option of a block.
fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    [&order.u16(code)[..], &order.u16(value.len() as u16), &padded(value)].concat()
}

/// Pads to a multiple of four bytes.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A capture of all frames of an interface, from its creation on.
#[derive(Debug)]
pub struct Recorder {
    socket: OwnedFd,
}

impl Recorder {
    /// Starts the capture. The socket's queue holds all frames until the end.
    pub fn start(interface: &Interface) -> Result<Self> {
        const QUEUE: libc::c_int = 512 << 20;
        let index = interface.index() as libc::c_int;
        interface.namespace().run(|| {
            // SAFETY: no pointers are passed.
            let fd =
                unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            ensure!(fd >= 0, "a packet socket: {}", io::Error::last_os_error());
            // SAFETY: a descriptor that the kernel has just given us.
            let recorder = Self { socket: unsafe { OwnedFd::from_raw_fd(fd) } };
            recorder.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, QUEUE)?;
            recorder.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
            // SAFETY: zeros are a valid address.
            let mut name: libc::sockaddr_ll = unsafe { mem::zeroed() };
            name.sll_family = libc::AF_PACKET as u16;
            name.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            name.sll_ifindex = index;
            let len = size_of_val(&name) as libc::socklen_t;
            // SAFETY: the address is as long as stated and outlives the call.
            let bound = unsafe { libc::bind(fd, (&raw const name).cast(), len) };
            ensure!(bound == 0, "binding a packet socket: {}", io::Error::last_os_error());
            Ok(recorder)
        })
    }

    /// Stops, and returns all frames, each truncated to `snap_length` bytes. A missing frame is an
    /// error.
    pub fn finish(self, snap_length: usize) -> Result<Vec<Packet>> {
        let mut packets = Vec::new();
        let mut room = vec![0; 1 << 18];
        while let Some((len, time_ns, outgoing)) = self.receive(&mut room)? {
            ensure!(len <= room.len(), "a frame of {len} bytes");
            let direction = Some(if outgoing { Direction::Egress } else { Direction::Ingress });
            let whole = Packet::new(time_ns, room[..len].to_vec());
            packets.push(Packet { direction, ..whole }.cut(snap_length));
        }
        let mut statistics: libc::tpacket_stats =
            libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the option is as long as stated and outlives the call.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut len,
            )
        };
        ensure!(got == 0, "PACKET_STATISTICS: {}", io::Error::last_os_error());
        ensure!(statistics.tp_drops == 0, "the capture missed {} packets", statistics.tp_drops);
        Ok(packets)
    }

    /// Length and time of the next frame, and true if it was sent.
    fn receive(&self, room: &mut [u8]) -> Result<Option<(usize, u64, bool)>> {
        const ROOM: usize = 64;
        let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        // SAFETY: zeros are a valid address.
        let mut name: libc::sockaddr_ll = unsafe { mem::zeroed() };
        // Aligned for control messages.
        let mut control = [0_u64; ROOM / 8];
        // SAFETY: zeros are a valid message.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = size_of_val(&name) as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = ROOM;
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the message and what it points to outlive the call.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, flags) };
        if len < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock {
                return Ok(None);
            }
            bail!("receiving a frame: {error}");
        }
        // SAFETY: the kernel has filled the message in.
        let time = unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            ensure!(
                !header.is_null() && (*header).cmsg_type == libc::SCM_TIMESTAMPNS,
                "a frame without a time"
            );
            libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned()
        };
        let time_ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        Ok(Some((len as usize, time_ns, name.sll_pkttype == libc::PACKET_OUTGOING)))
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> Result<()> {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the value is as long as stated and outlives the call.
        let result = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), level, option, (&raw const value).cast(), len)
        };
        ensure!(result == 0, "socket option {option}: {}", io::Error::last_os_error());
        Ok(())
    }
}
