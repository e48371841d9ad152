//! Super-packets: with any segmentation and merging, records count the packets on the wire.

use anyhow::Result;
use observer_tests::{
    books::Books,
    counters::frames_by_cpu,
    cpus, lab,
    lab::Lab,
    offloads::Offloads,
    tally::{Crossed, Tally},
    traffic::{
        Connection, PacketSocket, Streams, bulk,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
        streams,
    },
    veth::{Family, Interface},
};

const BYTES: u64 = 200_000_000;

/// Downloads into the task, then uploads a tenth of it, while windows close.
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

    // Checks the generator's count against the minimum number of segments of 200 MB.
    let full = 1500 - family.header() - 32;
    assert!(
        from_server.packets >= BYTES / full,
        "{from_server} of at most {full} bytes of payload each"
    );
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

/// Runs `work` and checks that each CPU has processed a fair part of its packets.
fn over_all_cpus<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = frames_by_cpu()?;
    let done = work()?;
    let taken: Vec<u32> = frames_by_cpu()?
        .iter()
        .zip(before)
        .map(|(after, before)| after.wrapping_sub(before))
        .collect();
    let (all, cpus) = (taken.iter().sum::<u32>(), cpus::allowed()?.len() as u32);
    let fair = taken.iter().filter(|frames| **frames >= all / cpus / 4).count();
    assert_eq!(fair as u32, cpus, "CPUs that took a fair part of {taken:?} frames");
    Ok(done)
}

/// Sends packets with IP version 5, which no record can hold and whose loss must be counted.
fn unreadable(from: &Interface, count: u64) -> Result<Tally> {
    let mut packet = Ipv4::new([10, 9, 0, 1].into(), protocol::UDP, udp(1, 2, 30));
    packet.version_and_length = Some(0x55);
    let sent = PacketSocket::open(from)?.send_each(&packet.frame(), 0..count, |_, _| {})?;
    Ok(Tally::new(count, sent.bytes - count * LINK_HEADER))
}

#[test]
fn ten_gigabytes_over_all_cpus_while_the_drain_runs_are_exact_and_no_counter_wraps() -> Result<()> {
    const STREAMS: usize = 2;
    const EACH: u64 = 5_000_000_000;
    const UNREADABLE: u64 = 100_000;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    // One window, so that a flow has more bytes than 32 bits hold, and more packets and losses than
    // 16 bits hold.
    let daemon = lab.daemon().window(600).start()?;
    let lost = unreadable(&task.outside, UNREADABLE)?;
    let Streams { from_clients, from_server } =
        over_all_cpus(|| streams(&task.outside, &task.inside, Family::V4, STREAMS, EACH))?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(
        &task.inside,
        Crossed { ingress: from_server + lost, egress: from_clients },
    );
    assert_eq!(books.lost(&task.inside), lost, "lost");
    let flows = books.records.flows(task.inside.mac());
    let large =
        flows.values().filter(|sum| sum.tally.bytes > EACH && sum.tally.packets > EACH / 1500);
    assert_eq!(large.count(), STREAMS, "flows of 5 GB: {flows:#?}");
    Ok(())
}

#[test]
fn two_gigabytes_without_offloads_over_all_cpus_while_the_drain_runs_are_exact() -> Result<()> {
    let lab = lab!(alone);
    let mut task = lab.task("task")?;
    task.set_offloads(Offloads::NONE)?;
    let daemon = lab.daemon().window(1).start()?;
    let Streams { from_clients, from_server } =
        over_all_cpus(|| streams(&task.outside, &task.inside, Family::V4, 2, 1_000_000_000))?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed { ingress: from_server, egress: from_clients });
    Ok(())
}
