//! The hosts of the demo: two tasks, an outside host and the ECS agent, with their addresses and
//! IDs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A link address and the two IP addresses that go with it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) mac: &'static str,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

impl Endpoint {
    const fn new(mac: &'static str, last: u8) -> Self {
        Self {
            mac,
            v4: Ipv4Addr::new(10, 20, 1, last),
            // Its last two hexadecimal digits read as the last number of the IPv4 address.
            v6: Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, (last / 10 * 16 + last % 10) as u16),
        }
    }

    pub(super) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// A task and its ENI.
#[derive(Debug)]
pub(super) struct Task {
    /// Name of its service and of its namespace.
    pub(super) service: &'static str,
    pub(super) id: &'static str,
    pub(super) eni: &'static str,
    pub(super) container: &'static str,
    pub(super) eth0: Endpoint,
    /// Its address on the link to the agent.
    pub(super) local: Ipv4Addr,
}

pub(super) const WEB: Task = Task {
    service: "web",
    id: "70137dd0c1d14cf982e5a6b7446c5f54",
    eni: "eni-0a6c55131166f85c8",
    container: "70137dd0c1d14cf982e5a6b7446c5f54-524788293",
    eth0: Endpoint::new("06:39:15:1c:ae:11", 11),
    local: Ipv4Addr::new(169, 254, 172, 2),
};

pub(super) const API: Task = Task {
    service: "api",
    id: "9c0e6f2b5a7d4e31b8f4d2a1c3e5f708",
    eni: "eni-0d41f7a9b2c36e508",
    container: "9c0e6f2b5a7d4e31b8f4d2a1c3e5f708-2531612879",
    eth0: Endpoint::new("06:39:15:1c:ae:12", 12),
    local: Ipv4Addr::new(169, 254, 172, 3),
};

pub(super) const TASKS: [&Task; 2] = [&WEB, &API];

pub(super) const OUTSIDE: Endpoint = Endpoint::new("06:39:15:1c:ae:01", 1);

/// The agent's bridge on an ECS host.
pub(super) const AGENT_BRIDGE: Ipv4Addr = Ipv4Addr::new(169, 254, 172, 1);
/// Address of the agent's credentials and metadata endpoint.
pub(super) const AGENT: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
