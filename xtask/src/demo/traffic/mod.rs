//! The traffic: a few conversations of each kind, in sequence, each bounded in count and time.

mod dns;
mod echo;
mod http;
mod timeout;

use std::{
    net::SocketAddr,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use super::{
    cast::{AGENT, API, OUTSIDE, WEB},
    network::Network,
};

/// A description of the traffic, for the terminal.
pub(super) const SUMMARY: [&str; 4] = [
    "HTTP   outside → web → api, over both; a download of 4 MiB by api over IPv6",
    "DNS    web asks outside over IPv4, api asks outside over IPv6",
    "ICMP   outside pings api over IPv4 and web over IPv6",
    "HTTP   both tasks ask the ECS agent for credentials, over ecs-eth0",
];
/// The explanation for the agent's traffic.
pub(super) const NOT_RECORDED: &str = "What both tasks asked of the ECS agent over ecs-eth0 is in no record: it never reaches an ENI.";

/// Bytes of the large download: enough for segments to be merged (GSO).
const DOWNLOAD: usize = 4 << 20;

/// Runs all conversations on a thread that ends by itself.
pub(super) fn start(network: &Network) -> JoinHandle<Result<()>> {
    let network = network.clone();
    thread::spawn(move || drive(&network))
}

fn drive(network: &Network) -> Result<()> {
    let Network { web, api, outside, agent } = network;
    let [outside_v4, outside_v6] = OUTSIDE.addresses();
    for (web_address, api_address) in WEB.eth0.addresses().into_iter().zip(API.eth0.addresses()) {
        let to = SocketAddr::new(web_address, 80);
        http::fetch(outside, web, to, &[2_000, 14_000]).context("HTTP from outside to web")?;
        let to = SocketAddr::new(api_address, 8080);
        http::fetch(web, api, to, &[300, 300, 5_000]).context("HTTP from web to api")?;
    }
    http::fetch(api, outside, SocketAddr::new(outside_v6, 80), &[DOWNLOAD])
        .context("the download")?;
    dns::ask(web, outside, SocketAddr::new(outside_v4, 53)).context("DNS over IPv4")?;
    dns::ask(api, outside, SocketAddr::new(outside_v6, 53)).context("DNS over IPv6")?;
    echo::ping(outside, API.eth0.v4.into(), 3).context("pinging api")?;
    echo::ping(outside, WEB.eth0.v6.into(), 3).context("pinging web")?;
    for task in [web, api] {
        http::fetch(task, agent, SocketAddr::new(AGENT.into(), 80), &[900])
            .context("asking the agent")?;
    }
    Ok(())
}
