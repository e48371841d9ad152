//! Floods of many flows, and the metrics of those that do not fit.

use std::{net::Ipv4Addr, ops::Range};

use anyhow::Result;
use observer_tests::{
    metrics::Metrics,
    tally::Tally,
    traffic::{
        PacketSocket,
        frames::{Ipv4, ipv4_at, protocol, udp},
    },
    veth::Interface,
};

/// Sends one packet of each of these flows, with different sizes. The same number is the same flow.
pub(super) fn flood(from: &Interface, flows: Range<u64>) -> Result<Tally> {
    const SIZES: u64 = 20;
    let length = |number: u64| 28 + number % SIZES;
    let template =
        Ipv4::new([10, 0, 0, 0].into(), protocol::UDP, udp(0, 53, SIZES as usize)).frame();
    let socket = PacketSocket::open(from)?;
    let sent = socket.send_each(&template, flows.clone(), |number, frame| {
        // Bytes beyond the length in the header are padding.
        frame[ipv4_at::TOTAL_LENGTH].copy_from_slice(&(length(number) as u16).to_be_bytes());
        frame[ipv4_at::SOURCE].copy_from_slice(&source(number).octets());
        frame[ipv4_at::SOURCE_PORT].copy_from_slice(&(number as u16).to_be_bytes());
    })?;
    Ok(Tally::new(sent.packets, flows.map(length).sum()))
}

/// Source address of a flow of [`flood`].
pub(super) fn source(number: u64) -> Ipv4Addr {
    (u32::from_be_bytes([10, 0, 0, 0]) + number as u32).into()
}

pub(super) fn spilled(page: &Metrics) -> u64 {
    page.sum("observer_spilled_entries_total", &[])
}

/// Packets and bytes lost for a reason, of all interfaces.
pub(super) fn lost_for(page: &Metrics, reason: &str) -> Tally {
    let told = |name| page.sum(name, &[("stage", "kernel"), ("reason", reason)]);
    Tally::new(told("observer_lost_packets_total"), told("observer_lost_bytes_total"))
}
