//! More flows than memory. Nothing may vanish: a packet is in a record or in the count of the lost.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    records::Status,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
    },
    veth::Interface,
};

/// Far more than the least memory holds.
const FLOWS: u32 = 150_000;

/// A packet of each of [`FLOWS`] flows, of sizes that differ.
fn flood(from: &Interface) -> Result<Tally> {
    let mut template = Ipv4::new([10, 0, 0, 0].into(), protocol::UDP, Vec::new());
    let frames = (0..FLOWS).map(|number| {
        template.source = (u32::from_be_bytes([10, 0, 0, 0]) + number).into();
        template.payload = udp(number as u16, 53, number as usize % 20);
        template.frame()
    });
    let sent = PacketSocket::open(from)?.send(frames)?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

#[test]
fn more_flows_than_memory_are_recorded_or_counted_as_lost() -> Result<()> {
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("flow-memory", "4MiB").start()?;
    let mut sent = Tally::default();
    for _ in 0..3 {
        sent += flood(&task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    let recorded = books.records.recorded(task.inside.mac()).ingress;
    println!("{recorded} recorded, {} lost", books.lost(&task.inside));
    assert!(recorded.packets > 0, "nothing is recorded of {sent}");
    Ok(())
}

#[test]
fn what_no_longer_fits_while_the_daemon_stands_still_is_lost_by_number() -> Result<()> {
    let lab = lab!(alone);
    let task = lab.task("task")?;
    // One window holds it all, but for the seconds around its end.
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    let mut sent = flood(&task.outside)?;
    daemon.freeze()?;
    sent += flood(&task.outside)?;
    sent += flood(&task.outside)?;
    daemon.thaw()?;
    sent += flood(&task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));

    let lost = books.lost(&task.inside);
    assert!(lost.packets > u64::from(FLOWS), "only {lost} of {sent} while nobody drained");
    let skipped = books.records.with_status(task.inside.mac(), Status::SkipData);
    assert!((1..=2).contains(&skipped.len()), "{} SKIPDATA records in one window", skipped.len());
    let by_reason = |name| books.metrics.sum(name, &[("stage", "kernel"), ("reason", "table_full")]);
    let told = Tally::new(by_reason("observer_lost_packets_total"), by_reason("observer_lost_bytes_total"));
    assert_eq!(told, lost, "observer_lost_…_total{{reason=table_full}}, and the interface's ledger");
    Ok(())
}

#[test]
fn a_full_table_of_one_task_takes_nothing_from_another() -> Result<()> {
    let lab = lab!(alone);
    let tasks = lab.tasks(["noisy", "calm"].map(String::from))?;
    let [noisy, calm] = &tasks[..] else { anyhow::bail!("two tasks") };
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    daemon.freeze()?;
    let calm_one = Ipv4::new([10, 8, 0, 1].into(), protocol::UDP, udp(1, 2, 100)).frame();
    let mut calm_sent = PacketSocket::open(&calm.outside)?.send(std::iter::repeat_n(&calm_one, 1_000))?;
    let noisy_sent = flood(&noisy.outside)?;
    calm_sent += PacketSocket::open(&calm.outside)?.send(std::iter::repeat_n(&calm_one, 1_000))?;
    calm_sent.bytes -= calm_sent.packets * LINK_HEADER;
    daemon.thaw()?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    // They share the table, so a calm task may lose an entry; each loss is charged to whom it belongs.
    books.assert_conserved(&noisy.inside, Crossed::ingress(noisy_sent));
    books.assert_conserved(&calm.inside, Crossed::ingress(calm_sent));
    Ok(())
}
