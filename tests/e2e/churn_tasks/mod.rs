//! Tasks of every network mode that start and end at random in a real Docker Engine, and tasks that
//! live for an instant.

mod accounts;
mod early;
mod held;
mod modes;
mod moments;
mod workers;

use std::env;

use anyhow::Result;
use observer_tests::{
    counters::Counters,
    netns::Namespace,
    tally::{Direction, Tally},
    traffic::Udp,
    veth::Family,
};

/// Length of the link header, which interface counters include and records do not.
const LINK_HEADER: u64 = 14;

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 5, payload: 64 };

fn asked(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Traffic of a task's interface, both directions, without link headers.
fn carried(space: &Namespace) -> Result<Tally> {
    let frames = Counters::read(space, "eth0")?.frames;
    let all: Tally = Direction::ALL.into_iter().map(|direction| frames.get(direction)).sum();
    Ok(Tally::new(all.packets, all.bytes - all.packets * LINK_HEADER))
}
