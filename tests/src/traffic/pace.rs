//! The pace of a sender: no faster than the receiving CPU takes frames from its queues.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::{
    counters,
    hook::Hook,
    poll::{self, PATIENCE},
    veth::Interface,
};

/// Limits a sender so that the receiver keeps up.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sent: u64,
    has_ring: bool,
}

impl Pace {
    /// Two scenarios at once stay below the usual limit of receive queues, 1,000 frames.
    const STRIDE: u64 = 256;
    const LOW: u64 = 128;
    /// A veth with GRO or native XDP has a ring of 256 frames, whose fill level cannot be read. The
    /// receiving CPU must run before it overflows.
    const RING_STRIDE: u64 = 64;
    const RING_PAUSE: Duration = Duration::from_millis(1);

    /// The pace of traffic from this interface.
    pub(super) fn of(from: &Interface) -> Result<Self> {
        Ok(Self {
            sent: 0,
            has_ring: from.offloads().merges() || Hook::under_test()? == Hook::XdpNative,
        })
    }

    /// Accounts for sent frames, and from time to time waits until the queues are short.
    pub(super) fn after(&mut self, frames: u64) -> Result<()> {
        let stride = if self.has_ring { Self::RING_STRIDE } else { Self::STRIDE };
        let strides = self.sent / stride;
        self.sent += frames;
        if self.sent / stride == strides {
            return Ok(());
        }
        if self.has_ring {
            thread::sleep(Self::RING_PAUSE);
        }
        poll::until_true("the receive queues are short", PATIENCE, || {
            Ok(counters::backlog()? < Self::LOW)
        })
    }
}
