//! Record files: their paths, their state after a kill, and a full disk.

mod folders;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use observer_tests::{
    books::Books,
    daemon::Daemon,
    lab,
    metrics::Metrics,
    records::{Records, Status, finished, unfinished},
    tally::{Crossed, Tally},
    text,
    traffic::Udp,
    veth::Family,
};

const UDP: Udp = Udp { family: Family::V4, flows: 300, packets: 2, payload: 8 };

#[test]
fn without_nodata_a_silent_interface_has_no_record() -> Result<()> {
    let lab = lab!();
    let task = lab.task("silent")?;
    let daemon = lab.daemon().window(1).set("no-nodata", "true").start()?;
    daemon.wait_windows(2)?;
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.of(task.inside.mac()).count(), 0);
    Ok(())
}

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn written(page: &Metrics) -> u64 {
    page.sum("observer_records_total", &[("log_status", "OK")])
}

#[test]
fn what_a_killed_daemon_had_written_is_read_after_the_next_start() -> Result<()> {
    const OUTPUTS: u64 = 3;
    let lab = lab!();
    let task = lab.task("task")?;
    let setup = || lab.daemon().window(1).also_output("text").also_output("parquet");
    let daemon = setup().start()?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    daemon.wait("the flows are in every file", |page| {
        written(page) >= OUTPUTS * u64::from(UDP.flows)
    })?;
    let out = daemon.out().to_path_buf();
    daemon.kill();
    let left = unfinished(&out)?;
    assert!(!left.is_empty() && finished(&out, "jsonl")?.is_empty(), "{left:?}");
    let daemon = setup().start()?;
    daemon.wait("the files are finished", |page| {
        page.sum("observer_unfinished_files_total", &[("result", "finished")]) as usize
            == left.len()
    })?;
    // No incomplete file passes for a complete one: each is parsed as strictly as any other.
    let stopped = daemon.stop()?;
    assert_eq!(unfinished(&out)?, Vec::<std::path::PathBuf>::new());
    let records = Records::read(&out).with_context(|| stopped.said.clone())?;
    assert_eq!(records.recorded(task.inside.mac()), Crossed::egress(sent));
    let (lines, _) = text::read(&out)?;
    assert_eq!(lines.len(), records.all.len());
    assert_eq!(finished(&out, "log.parquet")?.len(), records.files.len());
    Ok(())
}

#[test]
fn what_passes_while_no_daemon_runs_is_a_gap_in_the_records() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let mac = task.inside.mac();
    let traffic = || UDP.send(&task.inside, &task.outside);
    let wait_written = |daemon: &Daemon<'_>| {
        daemon.wait("the flows are written", |page| written(page) >= u64::from(UDP.flows)).map(drop)
    };
    // No daemon has run before, so this traffic belongs to no record.
    traffic()?;
    let setup = || lab.daemon().window(1);
    let daemon = setup().start()?;
    daemon.wait_attached(&task.inside)?;
    let mut sent = traffic()?;
    wait_written(&daemon)?;
    let out = daemon.out().to_path_buf();
    let killed = unix_seconds();
    daemon.kill();
    let detached = setup().detach()?;
    assert!(detached.status.success(), "{}", detached.stderr);
    traffic()?;
    // Longer than a window.
    thread::sleep(Duration::from_millis(1500));

    let started = unix_seconds();
    let daemon = setup().start()?;
    daemon.wait_attached(&task.inside)?;
    sent += traffic()?;
    wait_written(&daemon)?;
    let younger = lab.task("younger")?;
    daemon.wait_attached(&younger.inside)?;
    daemon.wait_windows(2)?;
    let before = unix_seconds();
    daemon.stop()?;
    let stopped = unix_seconds();
    traffic()?;
    thread::sleep(Duration::from_millis(1500));

    // No window ends in this short run.
    let daemon = setup().window(600).start()?;
    daemon.wait_attached(&task.inside)?;
    daemon.stop()?;
    let records = Records::read(&out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent));
    let mut gaps: Vec<_> = records
        .with_status(mac, Status::SkipData)
        .into_iter()
        .map(|record| (record.start, record.end, record.tally))
        .collect();
    gaps.sort_by_key(|(start, ..)| *start);
    let [(first_start, first_end, first), (second_start, second_end, second)] = gaps[..] else {
        panic!("two gaps, not {gaps:?}");
    };
    assert_eq!(
        (first, second),
        (Tally::default(), Tally::default()),
        "nobody knows how much passed"
    );
    // The watermark of a killed daemon is the end of its last whole window.
    assert!((killed - 2..=killed + 1).contains(&first_start), "{first_start}, killed at {killed}");
    assert!((started..before).contains(&first_end), "{first_end}, started at {started}");
    assert!(
        (before..=stopped).contains(&second_start),
        "{second_start}, stopped at {before} to {stopped}"
    );
    assert!(second_end > stopped, "{second_end}, stopped at {stopped}");
    // All traffic of a younger task is known, up to the stop.
    let late = records.with_status(younger.inside.mac(), Status::SkipData);
    assert_eq!(late.iter().map(|it| it.start).collect::<Vec<_>>(), [second_start]);
    Ok(())
}

#[test]
fn what_was_half_written_is_left_out_and_what_is_no_file_is_set_aside() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let setup = || lab.daemon().window(1).also_output("parquet");
    let daemon = setup().start()?;
    UDP.send(&task.inside, &task.outside)?;
    daemon.wait("the flows are in the files", |page| written(page) >= 2 * u64::from(UDP.flows))?;
    let out = daemon.out().to_path_buf();
    daemon.kill();
    let mut whole = BTreeSet::new();
    for part in unfinished(&out)? {
        let is_json = part.to_string_lossy().contains(".jsonl.");
        let mut file = File::options().append(true).open(&part)?;
        file.write_all(if is_json {
            b"{\"version\":2,\"account_id\":\"1"
        } else {
            b"half a footer"
        })?;
        whole.insert((is_json, part));
    }
    let daemon = setup().start()?;
    daemon.wait("both are dealt with", |page| {
        let sum = |result| page.sum("observer_unfinished_files_total", &[("result", result)]);
        sum("finished") == 1 && sum("set_aside") == 1
    })?;
    let said = daemon.stop()?.said;
    for (is_json, part) in whole {
        let place = part.with_extension(if is_json { "" } else { "incomplete" });
        let name = place.file_name().and_then(|name| name.to_str()).context("a name")?;
        let place = if is_json { part.with_file_name(name.trim_matches('.')) } else { place };
        assert!(place.exists(), "{}", place.display());
        assert!(
            said.contains(&*part.file_name().context("a name")?.to_string_lossy()),
            "a notice of {part:?}: {said}"
        );
    }
    let records = Records::read(&out)?;
    assert!(records.with_status(task.inside.mac(), Status::Ok).len() >= usize::from(UDP.flows));
    Ok(())
}

/// Mounts a file system of this size; the lab unmounts it.
fn small_disk(at: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(at)?;
    let options = format!("size={bytes}");
    mount(Some("observer-e2e"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

#[test]
fn a_full_disk_stops_the_files_alone_and_heals() -> Result<()> {
    const SIZE: u64 = 1 << 20;
    let lab = lab!();
    let task = lab.task("task")?;
    small_disk(&lab.path("daemon-out"), SIZE)?;
    let setup =
        lab.daemon().window(1).also_output("text").also_output("parquet").also_output("stdout");
    let daemon = setup.start()?;
    let ballast = daemon.out().join("ballast");
    let mut sent = Tally::default();
    sent += UDP.send(&task.inside, &task.outside)?;
    daemon.wait("the first flows are written", |page| written(page) >= 4 * u64::from(UDP.flows))?;

    let mut file = File::create(&ballast)?;
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    drop(file);
    let failing =
        |page: &Metrics, output| page.get("observer_output_failing", &[("output", output)]);
    let files = ["jsonl", "text", "parquet"];
    // Each round writes more than the rest of the last page of every output.
    let mut rounds = 0;
    let page = loop {
        sent += UDP.send(&task.inside, &task.outside)?;
        daemon.wait_windows(1)?;
        let page = daemon.metrics()?;
        if files.iter().all(|output| failing(&page, output) == Some(1.0)) {
            break page;
        }
        rounds += 1;
        assert!(rounds < 60, "{}", page.shown("observer_output_failing"));
    };
    assert_eq!(failing(&page, "stdout"), Some(0.0), "standard output, which no disk stops");
    assert!(page.sum("observer_lost_records_total", &[("reason", "write_error")]) > 0);
    assert_eq!(daemon.get("/readyz")?.status, 200);

    fs::remove_file(&ballast)?;
    sent += UDP.send(&task.inside, &task.outside)?;
    // Only a written file is tried again: every window has at least a NODATA record.
    daemon.wait("the files are written again", |page| {
        files.iter().all(|output| failing(page, output) == Some(0.0))
    })?;
    sent += UDP.send(&task.inside, &task.outside)?;
    let page = daemon.wait("all is counted", |page| page.recorded(&task.inside).egress == sent)?;
    daemon.wait_windows(2)?;
    let lost = daemon
        .metrics()?
        .sum("observer_lost_packets_total", &[("stage", "sink"), ("reason", "write_error")]);
    assert_eq!(page.recorded(&task.inside).egress, sent, "the metrics");

    let out = daemon.out().to_path_buf();
    let books = Books::close(daemon, [&task.inside])?;
    let json = books.records.recorded(task.inside.mac()).egress;
    let printed: u64 =
        packets(&books.stdout.lines().map(text::Line::parse).collect::<Result<Vec<_>>>()?);
    assert_eq!(printed, sent.packets, "packets on standard output");
    let text: u64 = packets(&text::read(&out)?.0);
    let parquet = parquet_packets(&out)?;
    // Each output has the traffic in its files or counts it as lost.
    assert_eq!(json.packets + text + parquet + lost, 3 * sent.packets);
    Ok(())
}

/// Packets in text lines; the field is the eighth behind the version.
fn packets(lines: &[text::Line]) -> u64 {
    lines.iter().filter_map(|line| line.facts[7].parse::<u64>().ok()).sum()
}

/// Packets in all Parquet files.
fn parquet_packets(out: &Path) -> Result<u64> {
    let mut sum = 0;
    for file in finished(out, "log.parquet")? {
        sum += observer_tests::parquet::sum(&file, "packets")?;
    }
    Ok(sum)
}

#[test]
fn parquet_has_aws_s_columns_and_what_old_readers_know() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let setup = lab.daemon().window(1).also_output("parquet").also_output("text");
    let daemon = setup.set("log-format", "all").start()?;
    UDP.send(&task.inside, &task.outside)?;
    // Several row groups, one of them without flows.
    daemon.wait_windows(3)?;
    let out = daemon.stop()?.out;
    let (header, _) = text::lines(&out)?;
    let whole = [
        "version",
        "srcport",
        "dstport",
        "protocol",
        "tcp_flags",
        "traffic_path",
        "encryption_status",
    ];
    let long = ["packets", "bytes", "start", "end"];
    for file in finished(&out, "log.parquet")? {
        let columns = observer_tests::parquet::columns(&file)?;
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let expected: Vec<String> = header.split(' ').map(|name| name.replace('-', "_")).collect();
        assert_eq!(names, expected, "{}", file.display());
        for (name, kind) in &columns {
            let expected = match name.as_str() {
                name if whole.contains(&name) => "INT32",
                name if long.contains(&name) => "INT64",
                _ => "BYTE_ARRAY",
            };
            assert_eq!(kind.to_string(), expected, "{name}");
        }
    }
    Ok(())
}
