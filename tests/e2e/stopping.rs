//! Signals, and the time limit of a stop: everything that is not stuck is completed, and losses are
//! reported.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use observer_tests::{
    daemon::{self, Setup, Stopped},
    lab, need,
    pipe::FullPipe,
    poll,
    records::{Records, unfinished},
    requires,
    tally::{Crossed, Tally},
    text,
    traffic::Udp,
    veth::{Family, Task},
};

const UDP: Udp = Udp { family: Family::V4, flows: 7, packets: 3, payload: 9 };

fn send(task: &Task) -> Result<Tally> {
    UDP.send(&task.inside, &task.outside)
}

/// Asserts that the files contain all sent traffic.
fn assert_recorded(out: &Path, task: &Task, sent: Tally) -> Result<()> {
    let records = Records::read(out)?;
    assert_eq!(records.recorded(task.inside.mac()), Crossed::egress(sent), "what the files hold");
    assert_eq!(unfinished(out)?, Vec::<PathBuf>::new());
    Ok(())
}

#[test]
fn signals_of_supervisors_and_terminals_end_nothing_and_lose_nothing() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    // One window, so that earlier traffic is lost if the signal kills the daemon.
    let daemon = lab.daemon().window(600).start()?;
    let mut sent = send(&task)?;
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM] {
        daemon.signal(signal)?;
        daemon.wait_said(signal.as_str())?;
        sent += send(&task)?;
    }
    for signal in [Signal::SIGPIPE, Signal::SIGWINCH, Signal::SIGURG, Signal::SIGCHLD] {
        daemon.signal(signal)?;
        sent += send(&task)?;
    }
    for signal in [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU] {
        // It stops, unless no shell could resume it. The kernel keeps counting.
        daemon.signal(signal)?;
        sent += send(&task)?;
        daemon.thaw()?;
    }
    assert_eq!(daemon.get("/healthz")?.status, 200);
    assert_recorded(&daemon.stop()?.out, &task, sent)
}

/// A daemon whose standard output is a full pipe.
fn full_stdout<'lab>(lab: &'lab lab::Lab, stop_timeout: &str) -> Result<(FullPipe, Setup<'lab>)> {
    let (pipe, stdout) = FullPipe::new()?;
    let setup = lab.daemon().window(600).also_output("stdout").set("stop-timeout", stop_timeout);
    Ok((pipe, setup.stdout(stdout)))
}

/// The value of a field in the log line that contains `words`.
fn field(said: &str, words: &str, name: &str) -> Result<u64> {
    let line = said
        .lines()
        .find(|line| line.contains(words))
        .with_context(|| format!("{words:?} in {said}"))?;
    let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("{name} in {line}"))
}

const LOST: &str = "did not take its last records";

#[test]
fn a_standard_output_that_nobody_reads_does_not_hold_up_the_end() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, setup) = full_stdout(&lab, "3")?;
    let daemon = setup.start()?;
    let sent = send(&task)?;
    daemon.signal(Signal::SIGTERM)?;
    let stopped = daemon.ends_with(1)?;
    // The other output is complete, and the losses of this one are reported.
    assert_recorded(&stopped.out, &task, sent)?;
    let said = &stopped.said;
    let lost = Tally::new(field(said, LOST, "packets")?, field(said, LOST, "bytes")?);
    assert_eq!(lost, sent, "{said}");
    let records = Records::read(&stopped.out)?.all.len() as u64;
    assert_eq!(field(said, LOST, "records")?, records, "{said}");
    drop(pipe);
    Ok(())
}

#[test]
fn what_waited_for_a_standard_output_is_all_counted() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, setup) = full_stdout(&lab, "3")?;
    let daemon = setup.window(1).start()?;
    let mut sent = Tally::default();
    let lost = |page: &observer_tests::metrics::Metrics| {
        page.sum("observer_lost_packets_total", &[("stage", "sink"), ("reason", "queue_full")])
    };
    // One window is being written, two are waiting, and further ones are lost.
    while lost(&daemon.metrics()?) == 0 {
        sent += send(&task)?;
        daemon.wait_windows(2)?;
    }
    let page = daemon.metrics()?;
    daemon.signal(Signal::SIGTERM)?;
    let stopped = daemon.ends_with(1)?;
    assert_recorded(&stopped.out, &task, sent)?;
    let at_the_end = field(&stopped.said, LOST, "packets")?;
    assert_eq!(lost(&page) + at_the_end, sent.packets, "{}", stopped.said);
    drop(pipe);
    Ok(())
}

#[test]
fn a_reader_that_comes_back_gets_every_record() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, setup) = full_stdout(&lab, "60")?;
    let daemon = setup.start()?;
    let sent = send(&task)?;
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_said("stopping")?;
    let reading = pipe.read();
    let stopped = daemon.ends_with(0)?;
    assert_recorded(&stopped.out, &task, sent)?;
    let printed = reading.text()?;
    let printed: Vec<_> = printed.lines().map(text::Line::parse).collect::<Result<_>>()?;
    assert_eq!(printed.len(), Records::read(&stopped.out)?.all.len(), "lines");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_costs_its_own_records_alone() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, setup) = full_stdout(&lab, "10")?;
    let daemon = setup.window(1).start()?;
    drop(pipe);
    let mut sent = send(&task)?;
    let labels = [("stage", "sink"), ("reason", "write_error")];
    let page = daemon.wait("the records are lost", |page| {
        page.sum("observer_lost_packets_total", &labels) == sent.packets
    })?;
    assert_eq!(page.get("observer_output_failing", &[("output", "stdout")]), Some(1.0));
    sent += send(&task)?;
    daemon.signal(Signal::SIGTERM)?;
    let stopped = daemon.ends_with(1)?;
    assert!(stopped.said.contains("stdout: standard output cannot be written"), "{}", stopped.said);
    assert_recorded(&stopped.out, &task, sent)
}

#[test]
fn a_second_signal_ends_the_wait() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, setup) = full_stdout(&lab, "3600")?;
    let daemon = setup.start()?;
    let sent = send(&task)?;
    daemon.signal(Signal::SIGTERM)?;
    // The other output is finished.
    poll::until_true("the files are finished", poll::PATIENCE, || {
        Ok(unfinished(daemon.out())?.is_empty() && !Records::read(daemon.out())?.all.is_empty())
    })?;
    daemon.signal(Signal::SIGINT)?;
    let stopped = daemon.ends_with(1)?;
    assert_eq!(field(&stopped.said, LOST, "packets")?, sent.packets, "{}", stopped.said);
    assert_recorded(&stopped.out, &task, sent)?;
    drop(pipe);
    Ok(())
}

#[test]
fn a_standard_error_that_nobody_reads_holds_up_nothing() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, stderr) = FullPipe::new()?;
    let daemon = lab.daemon().window(1).set("log-level", "debug").stderr(stderr).start()?;
    let mut sent = Tally::default();
    for _ in 0..5 {
        // A log line for each of these would be wrong.
        daemon.signal(Signal::SIGHUP)?;
        sent += send(&task)?;
        daemon.wait_windows(1)?;
    }
    assert_eq!(daemon.get("/healthz")?.status, 200);
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_recorded(&out, &task, sent)?;
    drop(pipe);
    Ok(())
}

#[test]
fn lines_that_standard_error_had_no_room_for_are_counted() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (pipe, stderr) = FullPipe::new()?;
    let daemon = lab.daemon().stderr(stderr).start()?;
    daemon.wait_attached(&task.inside)?;
    let reading = pipe.read();
    daemon.signal(Signal::SIGHUP)?;
    daemon.stop()?;
    let said = reading.text()?;
    assert!(said.contains("lines of this log were dropped"), "{said}");
    assert!(said.contains("stopping"), "{said}");
    Ok(())
}

/// Stops a daemon with one thread stuck, as if waiting for a disk; returns its files and output.
fn stop_with_a_stuck(thread: &str, status: i32, test: &str) -> Result<(Tally, u64, Stopped)> {
    let lab = lab::Lab::new(test, 1)?;
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).also_output("text").set("stop-timeout", "4").start()?;
    let sent = send(&task)?;
    daemon.wait("all is counted", |page| page.recorded(&task.inside).egress == sent)?;
    let frozen = daemon.freeze_thread(thread)?;
    daemon.signal(Signal::SIGTERM)?;
    let stopped = daemon.ends_with_frozen(status, frozen)?;
    let (lines, _) = text::read(&stopped.out)?;
    let packets = lines.iter().filter_map(|line| line.facts[7].parse::<u64>().ok());
    Ok((sent, packets.sum(), stopped))
}

#[test]
fn a_disk_that_hangs_does_not_hold_up_the_end() -> Result<()> {
    need!(requires::root());
    let (sent, text, stopped) = stop_with_a_stuck("sink-jsonl", 1, observer_tests::test_name!())?;
    assert_eq!(text, sent.packets, "what the other output holds");
    assert_eq!(field(&stopped.said, LOST, "packets")?, sent.packets, "{}", stopped.said);
    Ok(())
}

#[test]
fn a_thread_that_hangs_does_not_keep_the_last_records_from_being_written() -> Result<()> {
    need!(requires::root());
    // The thread that writes records still stops. The search for interfaces leaves nothing behind.
    for (thread, status) in [("watch", 0), ("interfaces", 1)] {
        let (sent, text, stopped) = stop_with_a_stuck(thread, status, &format!("stuck-{thread}"))?;
        assert_eq!(text, sent.packets, "with a stuck {thread}");
        assert!(
            stopped.said.contains(&format!("the thread {thread} did not end in time")),
            "{}",
            stopped.said
        );
    }
    Ok(())
}

#[test]
fn a_tick_that_hangs_does_not_hold_up_the_end() -> Result<()> {
    need!(requires::root());
    let (_, _, stopped) = stop_with_a_stuck("tick", 1, observer_tests::test_name!())?;
    assert!(stopped.said.contains("the last records may not be written"), "{}", stopped.said);
    Ok(())
}

#[test]
fn verbs_end_quietly_when_their_reader_goes() -> Result<()> {
    let lab = lab!();
    for arguments in [
        &["schema", "athena", "--deliver", "s3://bucket"][..],
        &["schema", "json"],
        &["config"],
        &["check"],
        &["tasks", "--no-daemon", "--source", "netns"],
        &["tasks", "--no-daemon", "--source", "netns", "--json"],
    ] {
        let mut command = daemon::command()?;
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
    drop(lab);
    Ok(())
}

#[test]
fn help_names_every_signal() -> Result<()> {
    let lab = lab!();
    let exit =
        daemon::run_to_end(daemon::command()?.args(["run", "--help"]), Duration::from_secs(10))?;
    for signal in ["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "ALRM", "PIPE", "TSTP", "CONT"] {
        assert!(exit.stdout.contains(signal), "{signal} in {}", exit.stdout);
    }
    drop(lab);
    Ok(())
}
