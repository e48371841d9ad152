//! CPU time and messages that packets cost the daemon.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    cpus,
    daemon::Daemon,
    lab,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv4, LINK_HEADER, ipv4_at, protocol, udp},
    },
};

use super::flood::{flood, spilled};

#[test]
fn packets_of_known_flows_raise_no_event() -> Result<()> {
    const PACKETS: u64 = 1_000_000;
    const FLOWS: u64 = 100;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let template = Ipv4::new([10, 9, 0, 1].into(), protocol::UDP, udp(0, 53, 30)).frame();
    let sent =
        PacketSocket::open(&task.outside)?.send_each(&template, 0..PACKETS, |number, frame| {
            frame[ipv4_at::SOURCE_PORT].copy_from_slice(&((number % FLOWS) as u16).to_be_bytes());
        })?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(
        &task.inside,
        Crossed::ingress(Tally::new(PACKETS, sent.bytes - PACKETS * LINK_HEADER)),
    );
    let page = &books.metrics;
    assert_eq!(spilled(page), 0, "entries that came by the ring");
    assert_eq!(
        page.sum("observer_copied_frames_total", &[]),
        0,
        "frames whose headers were copied"
    );
    // Messages to the daemon grow with flows and drains, not with packets.
    let drains = page.sum("observer_drain_duration_seconds_count", &[("phase", "read")]);
    let most = FLOWS * cpus::allowed()?.len() as u64 * drains;
    let told = page.sum("observer_drained_entries_total", &[]);
    assert!((FLOWS..=most).contains(&told), "{told} entries in {drains} drains of {FLOWS} flows");
    Ok(())
}

/// CPU time of the daemon in seconds, all threads.
fn cpu_time(daemon: &Daemon<'_>) -> Result<f64> {
    // utime and stime are fields 14 and 15. The second field, the name, may contain spaces
    // (proc(5)).
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid()))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("a name")?.1.split(' ').collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
    Ok(ticks as f64 / hertz as f64)
}

#[test]
fn overload_costs_the_daemon_a_bounded_share_of_a_cpu_and_it_recovers() -> Result<()> {
    const STORM: Duration = Duration::from_secs(4);
    /// Flows per CPU: more than fit, and few enough that a window of them is written before the
    /// next ends.
    const FLOWS: u64 = 30_000;
    /// Seconds of CPU per packet with its own flow; measured: 1 µs.
    const DEAREST: f64 = 5e-6;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(2).set("flow-memory", "4MiB").start()?;
    let (start, before) = (Instant::now(), cpu_time(&daemon)?);
    // Each CPU sends new flows as fast as possible, so that nearly every packet evicts another
    // flow.
    let sent = cpus::on_each(|cpu| {
        let mut sent = Tally::default();
        while start.elapsed() < STORM {
            let first = cpu as u64 * FLOWS;
            sent += flood(&task.outside, first..first + FLOWS)?;
        }
        Ok(sent)
    })?;
    let (wall, used) = (start.elapsed(), cpu_time(&daemon)? - before);
    let sent: Tally = sent.into_iter().sum();
    daemon.wait_windows(2)?;
    let (calm, before) = (Instant::now(), cpu_time(&daemon)?);
    daemon.wait_windows(1)?;
    let idle = (cpu_time(&daemon)? - before) / calm.elapsed().as_secs_f64();
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    let share = used / wall.as_secs_f64();
    let lost = books.lost(&task.inside);
    println!(
        "{sent} sent in {wall:?}, {lost} lost, {share:.2} of a CPU used; afterwards {idle:.3}"
    );
    // CPU time grows with the packets sent, evicted or not, and ends with them.
    assert!(used < DEAREST * sent.packets as f64, "{used} s of CPU time for {sent}");
    assert!(idle < 0.5, "{idle:.2} of a CPU used two windows after the storm");
    Ok(())
}
