use std::{
    io, mem,
    num::NonZeroUsize,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Result, ensure};
use nix::sys::{
    mman::{MapFlags, ProtFlags, mmap, munmap},
    socket::{setsockopt, sockopt::SndBuf},
};

use super::pace::Pace;
use crate::{
    hook::Hook,
    poll::{self, PATIENCE},
    tally::Tally,
    veth::Interface,
};

/// Frames per system call.
const BATCH: usize = 64;

/// Send buffer of a socket, in bytes, if the veth polls: it then holds 256 frames
/// (`VETH_RING_SIZE`) and drops more, and senders on two CPUs share it. The smallest frame counts
/// as about 700 bytes, and the kernel doubles this value.
const RING_SHARE: usize = 32 << 10;

/// A raw socket that sends frames unchanged.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// `struct tpacket_req`.
#[repr(C)]
struct RingRequest {
    block_size: u32,
    block_count: u32,
    frame_size: u32,
    frame_count: u32,
}

/// `struct tpacket2_hdr`.
#[repr(C)]
struct RingHeader {
    status: u32,
    len: u32,
    snap_len: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

const _: () = assert!(size_of::<RingHeader>() == 32);

impl PacketSocket {
    /// Opens a socket on an interface.
    pub fn open(interface: &Interface) -> Result<Self> {
        let index = interface.index() as libc::c_int;
        interface.namespace().run(|| {
            // Without a protocol it receives nothing.
            // SAFETY: no pointers are passed.
            let fd =
                unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
            ensure!(fd >= 0, "a packet socket: {}", io::Error::last_os_error());
            // SAFETY: a descriptor that the kernel has just given us.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: zeros are a valid address.
            let mut name: libc::sockaddr_ll = unsafe { mem::zeroed() };
            name.sll_family = libc::AF_PACKET as u16;
            name.sll_ifindex = index;
            // SAFETY: the address is as long as stated and outlives the call.
            let bound = unsafe {
                libc::bind(
                    fd.as_raw_fd(),
                    (&raw const name).cast(),
                    size_of_val(&name) as libc::socklen_t,
                )
            };
            ensure!(bound == 0, "binding a packet socket: {}", io::Error::last_os_error());
            if Hook::under_test()? == Hook::XdpNative {
                setsockopt(&fd, SndBuf, &RING_SHARE)?;
            }
            Ok(Self { fd })
        })
    }

    /// Makes frames bypass the queueing discipline and all egress hooks (`PACKET_QDISC_BYPASS`).
    pub fn bypass_queues(self) -> Result<Self> {
        self.set(libc::PACKET_QDISC_BYPASS, &1_i32)?;
        Ok(self)
    }

    /// Sends frames in batches; returns their number and total length.
    pub fn send<F: AsRef<[u8]>>(&self, frames: impl IntoIterator<Item = F>) -> Result<Tally> {
        let mut frames = frames.into_iter();
        let (mut sent, mut pace) = (Tally::default(), Pace::default());
        loop {
            let batch: Vec<F> = frames.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(sent);
            }
            self.send_batch(&batch)?;
            sent += batch.iter().map(|frame| Tally::new(1, frame.as_ref().len() as u64)).sum();
            pace.after(batch.len() as u64)?;
        }
    }

    /// Sends a frame for each number: `template`, modified by `change`. About a million frames a
    /// second.
    pub fn send_each(
        &self,
        template: &[u8],
        mut numbers: Range<u64>,
        mut change: impl FnMut(u64, &mut [u8]),
    ) -> Result<Tally> {
        let mut frames = vec![template.to_vec(); BATCH];
        let (mut sent, mut pace) = (Tally::default(), Pace::default());
        while !numbers.is_empty() {
            let batch = numbers.by_ref().take(BATCH).zip(&mut frames);
            let count = batch.map(|(number, frame)| change(number, frame)).count();
            self.send_batch(&frames[..count])?;
            sent += Tally::of(count as u64, template.len() as u64);
            pace.after(count as u64)?;
        }
        Ok(sent)
    }

    fn send_batch<F: AsRef<[u8]>>(&self, batch: &[F]) -> Result<()> {
        let mut parts: Vec<_> = batch
            .iter()
            .map(AsRef::as_ref)
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<_> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: zeros are a valid message without address.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut done = 0;
        while done < messages.len() {
            let rest = &mut messages[done..];
            // SAFETY: the messages and what they point to outlive the call.
            let sent = unsafe {
                libc::sendmmsg(self.fd.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0)
            };
            ensure!(sent > 0, "sending frame {done}: {}", io::Error::last_os_error());
            done += sent as usize;
        }
        Ok(())
    }

    /// Sends frames through a `PACKET_TX_RING`: only their link header lies in the linear part of
    /// the buffer.
    ///
    /// Consumes the socket, because a ring cannot be removed.
    pub fn send_not_linear<F: AsRef<[u8]>>(self, frames: &[F]) -> Result<Tally> {
        const FRAME_SIZE: usize = 2048;
        const FRAMES: usize = 32;
        const SEND_REQUEST: u32 = 1;
        const AVAILABLE: u32 = 0;
        let version = libc::c_int::from(libc::tpacket_versions::TPACKET_V2 as u8);
        self.set(libc::PACKET_VERSION, &version)?;
        let request = RingRequest {
            block_size: (FRAME_SIZE * FRAMES) as u32,
            block_count: 1,
            frame_size: FRAME_SIZE as u32,
            frame_count: FRAMES as u32,
        };
        self.set(libc::PACKET_TX_RING, &request)?;
        let len = NonZeroUsize::new(FRAME_SIZE * FRAMES).unwrap_or(NonZeroUsize::MIN);
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let ring = unsafe { mmap(None, len, flags, MapFlags::MAP_SHARED, self.fd.as_fd(), 0) }?;
        let mut sent = Tally::default();
        for (at, frame) in frames.iter().map(AsRef::as_ref).enumerate() {
            ensure!(
                frame.len() <= FRAME_SIZE - size_of::<RingHeader>(),
                "{} bytes in a frame",
                frame.len()
            );
            // SAFETY: within the mapping, and aligned as the kernel asks.
            let slot = unsafe { ring.as_ptr().cast::<u8>().add(at % FRAMES * FRAME_SIZE) };
            #[expect(
                clippy::cast_ptr_alignment,
                reason = "slots are multiples of 2,048 bytes from a page's start"
            )]
            let header = slot.cast::<RingHeader>();
            // SAFETY: the slot is ours while its status is not SEND_REQUEST, and the frame fits
            // behind the header.
            unsafe {
                ptr::copy_nonoverlapping(
                    frame.as_ptr(),
                    slot.add(size_of::<RingHeader>()),
                    frame.len(),
                );
                (&raw mut (*header).len).write_volatile(frame.len() as u32);
                (&raw mut (*header).status).write_volatile(SEND_REQUEST);
            }
            // SAFETY: nothing is passed: the kernel reads the ring.
            let result = unsafe { libc::send(self.fd.as_raw_fd(), ptr::null(), 0, 0) };
            ensure!(result >= 0, "sending frame {at} of a ring: {}", io::Error::last_os_error());
            poll::until_true("the ring's frame is sent", PATIENCE, || {
                // SAFETY: as above.
                let status = unsafe { (&raw const (*header).status).read_volatile() };
                ensure!(status != 4, "the kernel refuses frame {at} of {} bytes", frame.len());
                Ok(status == AVAILABLE)
            })?;
            sent += Tally::new(1, frame.len() as u64);
        }
        // SAFETY: mapped above with this length, and not used after this.
        unsafe { munmap(ring, len.get()) }?;
        Ok(sent)
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> Result<()> {
        // SAFETY: the value is as long as stated and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        };
        ensure!(result == 0, "packet socket option {option}: {}", io::Error::last_os_error());
        Ok(())
    }
}
