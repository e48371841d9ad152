//! Super-packets: whatever segments and merges, records count what is on the wire.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    lab::Lab,
    offloads::Offloads,
    tally::Crossed,
    traffic::{Connection, bulk},
    veth::Family,
};

const BYTES: u64 = 200_000_000;

/// Downloads into the task, then uploads a tenth of it; windows close meanwhile.
fn transfer(lab: &Lab, family: Family, offloads: Offloads) -> Result<()> {
    let mut task = lab.task("task")?;
    task.set_offloads(offloads)?;
    let daemon = lab.daemon().window(1).start()?;
    let down = bulk(&task.outside, &task.inside, family, BYTES)?;
    let up = bulk(&task.inside, &task.outside, family, BYTES / 10)?;
    let books = Books::close(daemon, [&task.inside])?;
    let Connection { from_client, from_server, .. } = down;
    let sent = Crossed { ingress: from_server, egress: from_client }
        + Crossed { ingress: up.from_client, egress: up.from_server };
    books.assert_exact(&task.inside, sent);

    // The generator's own count, against what 200 MB must at least be cut into.
    let full = 1500 - family.header() - 32;
    assert!(from_server.packets >= BYTES / full, "{from_server} of at most {full} bytes of payload each");
    Ok(())
}

#[test]
fn packets_of_a_bulk_transfer_equal_tcp_segments() -> Result<()> {
    let lab = lab!();
    transfer(&lab, Family::V4, Offloads::VETH)
}

#[test]
fn packets_of_a_bulk_transfer_over_ipv6_equal_tcp_segments() -> Result<()> {
    let lab = lab!();
    transfer(&lab, Family::V6, Offloads::VETH)
}

#[test]
fn packets_of_a_bulk_transfer_without_offloads_equal_tcp_segments() -> Result<()> {
    let lab = lab!();
    transfer(&lab, Family::V4, Offloads::NONE)
}

#[test]
fn packets_segmented_behind_the_hook_equal_tcp_segments() -> Result<()> {
    let lab = lab!();
    transfer(&lab, Family::V4, Offloads::SOFTWARE)
}

#[test]
fn packets_merged_before_the_hook_equal_tcp_segments() -> Result<()> {
    let lab = lab!();
    transfer(&lab, Family::V4, Offloads::MERGED)?;
    Ok(())
}
