//! Generators that know exactly what they sent.
//!
//! In: the two ends of a pair. Out: a [`Tally`](crate::tally::Tally) of what the sender's egress and the receiver's
//! ingress must have seen. None of them goes on faster than the receiving CPU: a veth whose packet queue overflows
//! drops, and then the generator would know less than the interface.

pub mod frames;
mod icmp;
mod packet;
mod tcp;
mod udp;

pub use icmp::{Pings, ping};
pub use packet::PacketSocket;
pub use tcp::{Connection, Conversation, Streams, Transfer, bulk, exchange, streams};
pub use udp::{Echo, SINK, Sink, Udp, segmented};

use std::io;

use anyhow::Result;

use crate::{
    counters,
    poll::{self, PATIENCE},
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
}

impl Pace {
    /// Frames between two looks at the queues: two scenarios at once stay below the usual limit of 1,000.
    const STRIDE: u64 = 256;
    const LOW: u64 = 128;

    /// Waits now and then until the queues are short.
    fn after(&mut self, frames: u64) -> Result<()> {
        let strides = self.sent / Self::STRIDE;
        self.sent += frames;
        if self.sent / Self::STRIDE == strides {
            return Ok(());
        }
        poll::until_true("the receive queues are short", PATIENCE, || Ok(counters::backlog()? < Self::LOW))
    }
}
