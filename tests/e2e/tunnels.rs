//! Super-packets in a tunnel: each segment has the outer and the inner headers.

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    lab,
    lab::Lab,
    need,
    offloads::Offloads,
    requires::Missing,
    tally::{Crossed, Tally},
    traffic::{SentTwice, bulk, frames::LINK_HEADER},
    tunnel::Tunnel,
    veth::Family,
};

const BYTES: u64 = 8_000_000;

const fn tunnel(words: &'static str, header: u64) -> Tunnel {
    Tunnel { words, outside: Family::V4, inside: Family::V4, header, ethernet: true }
}

const fn bare(words: &'static str, inside: Family, header: u64) -> Tunnel {
    Tunnel { inside, ethernet: false, ..tunnel(words, header) }
}

const VXLAN: Tunnel = tunnel("vxlan id 7 dstport 4789", 16);

/// Downloads into the task, then uploads a part of it.
fn transfer(tunnel: Tunnel, offloads: Offloads) -> Result<()> {
    let lab = lab!();
    let mut task = lab.task("task")?;
    task.set_offloads(offloads)?;
    let through = tunnel.through(&lab, &task)?;
    let daemon = lab.daemon().window(1).start()?;
    let down = bulk(&through.outside, &through.inside, tunnel.inside, BYTES)?;
    let up = bulk(&through.inside, &through.outside, tunnel.inside, BYTES / 4)?;
    let books = Books::close(daemon, [&task.inside])?;
    let sent = Crossed { ingress: down.from_server, egress: down.from_client }
        + Crossed { ingress: up.from_client, egress: up.from_server };
    let sent = Crossed::of(|direction| tunnel.outside_of(sent.get(direction)));
    books.assert_exact(&task.inside, sent);
    if !offloads.tso {
        // Every segment was a frame on the wire and in the interface's counters.
        let frames = books.counters[&task.inside.mac()].frames;
        let wire = Crossed::of(|direction| {
            let Tally { packets, bytes } = frames.get(direction);
            Tally::new(packets, bytes - packets * LINK_HEADER)
        });
        assert_eq!(sent, wire, "what was sent, and frames on the wire");
    }
    Ok(())
}

/// Checks super-packets on the wire, segments on the wire, and segments merged before the hook.
fn segments_equal_the_wire(tunnel: Tunnel) -> Result<()> {
    // On a busy machine TCP may retransmit a segment, and then the sent bytes are unknown.
    const ATTEMPTS: usize = 4;
    for offloads in [Offloads::VETH, Offloads::NONE, Offloads::MERGED] {
        let mut attempts = (0..ATTEMPTS).map(|_| transfer(tunnel, offloads));
        let told =
            attempts.find(|result| !result.as_ref().is_err_and(anyhow::Error::is::<SentTwice>));
        told.context("segments were sent twice each time")??;
    }
    Ok(())
}

/// Checks that this kernel supports such tunnels. The lab is dropped before the transfers: two
/// scenarios that each hold one and wait for another would deadlock.
fn known(lab: Lab, tunnel: Tunnel) -> Result<Result<(), Missing>> {
    let known = tunnel.is_known(&lab.other_namespace("probe")?);
    drop(lab);
    Ok(known)
}

#[test]
fn super_packets_in_vxlan_count_as_the_segments_on_the_wire() -> Result<()> {
    need!(known(lab!(), VXLAN)?);
    segments_equal_the_wire(VXLAN)
}

#[test]
fn super_packets_in_vxlan_over_ipv6_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel =
        Tunnel { outside: Family::V6, inside: Family::V6, ..tunnel("vxlan id 7 dstport 8472", 16) };
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}

#[test]
fn super_packets_in_geneve_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel = tunnel("geneve id 7", 16);
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}

#[test]
fn super_packets_in_gre_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel = bare("gre key 7", Family::V4, 8);
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}

#[test]
fn super_packets_in_gretap_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel = tunnel("gretap", 4);
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}

#[test]
fn super_packets_in_ip_in_ip_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel = bare("ipip", Family::V4, 0);
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}

#[test]
fn super_packets_in_6in4_count_as_the_segments_on_the_wire() -> Result<()> {
    let tunnel = bare("sit", Family::V6, 0);
    need!(known(lab!(), tunnel)?);
    segments_equal_the_wire(tunnel)
}
