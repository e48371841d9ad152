//! Limits of the daemon's own resources: excess traffic is counted as lost, and the daemon keeps
//! running.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    ops::Range,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use observer_tests::{
    books::Books,
    control_group::ControlGroup,
    daemon::{command, run_to_end},
    lab,
    lab::Lab,
    need, poll,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket, Udp,
        frames::{Ipv4, LINK_HEADER, ipv4_at, protocol, udp},
    },
    veth::{Family, Interface},
};

const MIB: u64 = 1 << 20;

/// Sends one packet of each of these flows.
fn flood(from: &Interface, flows: Range<u64>) -> Result<Tally> {
    let template = Ipv4::new([10, 0, 0, 0].into(), protocol::UDP, udp(0, 53, 20)).frame();
    let socket = PacketSocket::open(from)?;
    let sent = socket.send_each(&template, flows, |number, frame| {
        let source = u32::from_be_bytes([10, 0, 0, 0]) + number as u32;
        frame[ipv4_at::SOURCE].copy_from_slice(&source.to_be_bytes());
        frame[ipv4_at::SOURCE_PORT].copy_from_slice(&(number as u16).to_be_bytes());
    })?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

/// Sends more flows than fit into the memory limit of a control group, in successive windows.
fn crowd(lab: &Lab, group: &ControlGroup, outputs: &[&'static str], flows: u64) -> Result<()> {
    const ROUNDS: u64 = 3;
    let task = lab.task("task")?;
    let setup = lab.daemon().window(10).in_group(group);
    let daemon = outputs.iter().fold(setup, |setup, output| setup.also_output(output)).start()?;
    daemon.wait_said(&group.limit().display().to_string())?;
    let mut sent = Tally::default();
    for round in 0..ROUNDS {
        sent += flood(&task.outside, round * flows..(round + 1) * flows)?;
        daemon.wait_windows(1)?;
    }
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    ensure!(group.killed()? == 0, "the kernel has killed a process of the group");
    let full = books.metrics.sum("observer_lost_packets_total", &[("reason", "window_full")]);
    println!("{outputs:?}: peak {:?}, {full} of {sent} found no room in memory", group.peak());
    ensure!(full > 0, "{sent} all found room: the limit is too high for this scenario");
    Ok(())
}

#[test]
fn more_flows_than_a_control_group_of_128_mib_holds_are_lost_by_number() -> Result<()> {
    let lab = lab!(alone);
    let group = need!(ControlGroup::with_memory(128 * MIB)?);
    crowd(&lab, &group, &[], 800_000)
}

#[test]
fn more_flows_than_a_control_group_holds_beside_all_outputs_are_lost_by_number() -> Result<()> {
    let lab = lab!(alone);
    let group = need!(ControlGroup::with_memory(160 * MIB)?);
    crowd(&lab, &group, &["text", "parquet", "stdout"], 800_000)
}

#[test]
fn what_does_not_fit_into_a_control_group_is_refused_or_said() -> Result<()> {
    let lab = lab!();
    let group = need!(ControlGroup::with_memory(96 * MIB)?);
    let file = group.limit().display().to_string();
    let run = |verb: &str, args: &[&str]| {
        let mut command = command()?;
        command.arg(verb).args(args).arg("--state-dir").arg(lab.path("state"));
        group.place(&mut command)?;
        run_to_end(&mut command, Duration::from_secs(20))
    };
    let exit = run("check", &[])?;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains(&format!("memory 96.0 MiB ({file})")), "{}", exit.stdout);
    let exit = run("check", &["--max-flows", "2000000"])?;
    assert!(
        exit.stdout.contains("--max-flows 2000000 does not fit into memory"),
        "{}",
        exit.stdout
    );
    let exit = run("run", &["--flow-memory", "90MiB"])?;
    assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
    assert!(
        exit.stderr.contains("--flow-memory 90.0 MiB") && exit.stderr.contains(&file),
        "{}",
        exit.stderr
    );
    drop(group);
    let tiny = need!(ControlGroup::with_memory(24 * MIB)?);
    let mut refused = command()?;
    refused.arg("run").arg("--state-dir").arg(lab.path("state"));
    tiny.place(&mut refused)?;
    let exit = run_to_end(&mut refused, Duration::from_secs(20))?;
    assert_eq!(exit.status.code(), Some(3), "{}", exit.stderr);
    assert!(exit.stderr.contains("raise the limit"), "{}", exit.stderr);
    Ok(())
}

#[test]
fn clients_that_say_nothing_keep_no_task_from_being_observed() -> Result<()> {
    const DESCRIPTORS: u64 = 256;
    let lab = lab!();
    let daemon = lab.daemon().descriptors(DESCRIPTORS, DESCRIPTORS).start()?;
    let idle: Vec<_> = (0..DESCRIPTORS)
        .map(|_| TcpStream::connect_timeout(&daemon.listen(), poll::stretched(poll::PATIENCE)))
        .collect::<Result<_, _>>()?;
    let task = lab.late_task("late")?;
    daemon.wait_attached(&task.inside)?;
    let udp = Udp { family: Family::V4, flows: 2, packets: 10, payload: 64 };
    let sent = udp.send(&task.inside, &task.outside)?;
    let connections =
        daemon.descriptors()?.iter().filter(|lead| lead.starts_with("socket:")).count() as u64;
    assert!(connections < DESCRIPTORS / 4, "{connections} sockets");
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    drop(idle);
    Ok(())
}

#[test]
fn requests_have_a_limit_of_size_and_of_time() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().start()?;
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&daemon.listen(), poll::stretched(poll::PATIENCE))?;
        // Longer than the server's limit.
        stream.set_read_timeout(Some(poll::stretched(3 * poll::PATIENCE)))?;
        Ok(stream)
    };
    let mut slow = connect()?;
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: ")?;
    let mut large = connect()?;
    let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    // The server may respond and close before the whole request is sent.
    let _ = large.write_all(head.as_bytes());
    let mut answer = [0; 12];
    large.read_exact(&mut answer)?;
    assert_eq!(&answer, b"HTTP/1.1 431");
    let mut rest = Vec::new();
    match slow.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => bail!("a request that does not end is not cut off: {error}"),
    }
    assert_eq!(daemon.get("/healthz").context("another client")?.status, 200);
    daemon.stop()?;
    Ok(())
}
