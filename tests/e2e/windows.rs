//! Windows and their records.

use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use observer_tests::{
    books::Books,
    lab,
    poll::stretched,
    records::{Record, Records, Status},
    tally::{Crossed, Tally},
    text,
    traffic::Udp,
    veth::Family,
};

#[test]
fn a_silent_interface_has_one_nodata_record_per_window() -> Result<()> {
    let lab = lab!();
    let task = lab.task("silent")?;
    let daemon = lab.daemon().window(1).start()?;
    daemon.wait_windows(4)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::default());
    let mac = task.inside.mac();
    let silent = books.records.with_status(mac, Status::NoData);
    assert_eq!(
        silent.len(),
        books.records.of(mac).count(),
        "records of a silent interface that are not NODATA"
    );
    assert!(silent.len() >= 5, "{} records of four whole windows and a part", silent.len());
    assert_contiguous(&silent, 1);
    for record in silent {
        assert_eq!(record.text("interface_id"), task.inside.id());
    }
    Ok(())
}

/// Asserts that the windows follow each other without gap or overlap, and that all but the first
/// and the last begin and end at multiples of `seconds`.
fn assert_contiguous(windows: &[&Record], seconds: i64) {
    for pair in windows.windows(2) {
        let [before, after] = pair else { continue };
        assert_eq!(before.end, after.start, "the end of a window, and the start of the next");
        assert_eq!(
            before.end % seconds,
            0,
            "the edge between two windows of {seconds} s, modulo {seconds}"
        );
    }
    // A window whose end came while the machine was busy is longer.
    let longest = stretched(Duration::from_secs(seconds as u64)).as_secs() as i64;
    for record in windows {
        assert!(
            record.end - record.start <= longest,
            "{} to {} is longer than {seconds}",
            record.start,
            record.end
        );
    }
}

#[test]
fn windows_are_aligned_to_the_epoch() -> Result<()> {
    let lab = lab!();
    let task = lab.task("silent")?;
    let daemon = lab.daemon().window(3).start()?;
    daemon.wait_windows(2)?;
    let books = Books::close(daemon, [&task.inside])?;
    let silent = books.records.with_status(task.inside.mac(), Status::NoData);
    assert!(silent.len() >= 2, "{} records", silent.len());
    assert_contiguous(&silent, 3);
    Ok(())
}

#[test]
fn a_flow_is_one_record_in_each_window_and_they_add_up() -> Result<()> {
    const SECONDS: i64 = 2;
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(SECONDS as u32).start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 10, payload: 32 };
    let windows = || Ok::<_, anyhow::Error>(daemon.metrics()?.sum("observer_windows_total", &[]));
    let last = windows()? + 3;
    let mut sent = Tally::default();
    while windows()? < last {
        sent += udp.send(&task.outside, &task.inside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));

    let mac = task.inside.mac();
    for (flow, sum) in books.records.flows(mac) {
        let records: Vec<_> =
            books.records.of(mac).filter(|record| record.flow == Some(flow)).collect();
        assert!(sum.records >= 3, "{} records in at least three windows", sum.records);
        for pair in records.windows(2) {
            let [before, after] = pair else { continue };
            let end = before.number("end_ms").context("end_ms")?;
            let start = after.number("start_ms").context("start_ms")?;
            assert!(end <= start, "two records of one flow overlap: {end} and {start}");
            // A packet within a tick of the edge may be in either window.
            let window = |seconds: i64| seconds.div_euclid(SECONDS);
            assert!(
                window(before.start) < window(after.start),
                "two records of one flow in one window"
            );
        }
        for record in records {
            let window = record.start.div_euclid(SECONDS) * SECONDS;
            assert!(
                record.end <= window + SECONDS,
                "{} to {} in the window {window}",
                record.start,
                record.end
            );
        }
    }
    Ok(())
}

#[test]
fn text_files_pass_the_strictest_reader_and_say_what_json_says() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks(["busy", "silent"].map(String::from))?;
    let [busy, silent] = &tasks[..] else { anyhow::bail!("two tasks") };
    let daemon = lab.daemon().window(1).also_output("text").start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        sent +=
            Udp { family, flows: 20, packets: 2, payload: 1 }.send(&busy.inside, &busy.outside)?;
    }
    daemon.wait_windows(2)?;
    let out = daemon.out().to_path_buf();
    let books = Books::close(daemon, [&busy.inside, &silent.inside])?;
    books.assert_exact(&busy.inside, Crossed::egress(sent));

    let (lines, files) = text::read(&out)?;
    assert_eq!(files.len(), books.records.files.len(), "text files, and files of JSON lines");
    let mut text: Vec<_> = lines.into_iter().map(|line| line.facts).collect();
    let mut json: Vec<_> = books.records.all.iter().map(Record::facts).collect();
    text.sort();
    json.sort();
    assert_eq!(text.len(), json.len(), "text lines, and JSON lines");
    for (text, json) in text.iter().zip(&json) {
        assert_eq!(text, json, "a text line, and the JSON line that should say the same");
    }
    Ok(())
}

#[test]
fn text_on_standard_output_says_what_the_files_say() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().also_output("stdout").start()?;
    let sent = Udp { family: Family::V6, flows: 9, packets: 2, payload: 1 }
        .send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    let printed = books.stdout.lines().map(text::Line::parse).collect::<Result<Vec<_>>>()?;
    let mut printed: Vec<_> = printed.into_iter().map(|line| line.facts).collect();
    let mut written: Vec<_> = books.records.all.iter().map(Record::facts).collect();
    printed.sort();
    written.sort();
    assert_eq!(printed, written, "lines on standard output, and in the files");
    Ok(())
}

/// The window that is open at the signal is written.
fn ends_in_order(signal: Signal, test: &str) -> Result<()> {
    let lab = lab::Lab::new(test, 1)?;
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).also_output("text").start()?;
    let sent = Udp { family: Family::V4, flows: 7, packets: 3, payload: 9 }
        .send(&task.inside, &task.outside)?;
    // At once, so that in most runs no tick has drained any of it. (Egress traffic is counted when
    // it is sent.)
    let stopped = daemon.stop_by(signal)?;
    let records = Records::read(&stopped.out)?;
    assert_eq!(
        records.recorded(task.inside.mac()),
        Crossed::egress(sent),
        "records after {signal}"
    );
    assert_eq!(
        observer_tests::records::unfinished(&stopped.out)?,
        Vec::<std::path::PathBuf>::new()
    );
    let (lines, _) = text::read(&stopped.out)?;
    assert_eq!(lines.len(), records.all.len(), "lines of text after {signal}");
    Ok(())
}

#[test]
fn sigterm_writes_the_window_that_is_open() -> Result<()> {
    observer_tests::need!(observer_tests::requires::root());
    ends_in_order(Signal::SIGTERM, observer_tests::test_name!())
}

#[test]
fn sigint_writes_the_window_that_is_open() -> Result<()> {
    observer_tests::need!(observer_tests::requires::root());
    ends_in_order(Signal::SIGINT, observer_tests::test_name!())
}
