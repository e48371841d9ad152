//! Generators that know exactly what they sent.
//!
//! In: the two ends of a pair. Out: a [`Tally`](crate::tally::Tally) of what the sender's egress and the receiver's
//! ingress must have seen. None of them goes on faster than the receiving CPU: a veth whose packet queue overflows
//! drops, and then the generator would know less than the interface.

mod clean;
pub mod frames;
mod icmp;
mod packet;
mod tcp;
mod udp;

pub use clean::{Manner, exchanges};
pub use icmp::{Pings, ping};
pub use packet::PacketSocket;
pub use tcp::{Connection, Conversation, SentTwice, Streams, Transfer, bulk, exchange, streams};
pub use udp::{Echo, SINK, Sink, Udp, segmented};

use std::{io, thread, time::Duration};

use anyhow::Result;

use crate::{
    counters,
    hook::Hook,
    poll::{self, PATIENCE},
    veth::Interface,
};

/// Binds an address that a socket of ours had before: a program that is being started elsewhere in this process holds
/// a copy of that socket until it is started.
fn bind<T>(mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
    poll::until("the address is free", PATIENCE, || match attempt() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        bound => Ok(Some(bound?)),
    })
}

/// Lets the receiver keep up with a sender.
#[derive(Debug, Default)]
struct Pace {
    sent: u64,
    has_ring: bool,
}

impl Pace {
    /// Two scenarios at once stay below the usual limit of the receive queues, 1,000.
    const STRIDE: u64 = 256;
    const LOW: u64 = 128;
    /// A veth that merges packets, or has XDP in its driver, has a ring of 256 frames, of which nobody tells how full
    /// it is. Whoever empties it must get the processor before that.
    const RING_STRIDE: u64 = 64;
    const RING_PAUSE: Duration = Duration::from_millis(1);

    /// For what is sent from this interface.
    fn of(from: &Interface) -> Result<Self> {
        Ok(Self { sent: 0, has_ring: from.offloads().merges() || Hook::under_test()? == Hook::XdpNative })
    }

    /// Waits now and then until the queues are short.
    fn after(&mut self, frames: u64) -> Result<()> {
        let stride = if self.has_ring { Self::RING_STRIDE } else { Self::STRIDE };
        let strides = self.sent / stride;
        self.sent += frames;
        if self.sent / stride == strides {
            return Ok(());
        }
        if self.has_ring {
            thread::sleep(Self::RING_PAUSE);
        }
        poll::until_true("the receive queues are short", PATIENCE, || Ok(counters::backlog()? < Self::LOW))
    }
}
