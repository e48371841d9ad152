//! A daemon that is killed or replaced loses nothing: the next one continues where it has ended.

use std::{env, fs, path::Path, thread, time::Duration};

use anyhow::{Result, ensure};
use observer_tests::{
    daemon::{Daemon, Setup},
    lab,
    lab::Lab,
    need, parquet,
    records::{Record, Records, finished},
    requires,
    tally::{Crossed, Direction},
    text,
    traffic::Echo,
    veth::{Family, Task},
};

/// IP packets of an echo, each way.
const PACKET: u64 = 128;

/// Milliseconds from the start of each daemon to its kill. `OBSERVER_KILLS` sets their number.
fn pauses() -> impl Iterator<Item = u64> {
    let kills = env::var("OBSERVER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5);
    // All phases of a window of one second, in no order.
    [300, 1900, 730, 2600, 50, 1111, 988, 17, 620, 1420].into_iter().cycle().take(kills)
}

/// Starts a daemon, and waits until it has seen packets towards the task.
fn started<'lab>(setup: Setup<'lab>, task: &Task) -> Result<Daemon<'lab>> {
    let daemon = setup.start()?;
    daemon.wait("the traffic is seen", |page| {
        page.ledger(&task.inside).is_some_and(|[ingress, _]| ingress.seen.packets > 0)
    })?;
    Ok(daemon)
}

/// Asserts that records hold each datagram of the echo exactly once.
fn assert_each_once(records: &Records, task: &Task, rounds: u64) -> Result<()> {
    let mac = task.inside.mac();
    let recorded = records.recorded(mac);
    let lost = records.lost(mac);
    ensure!(lost.packets == 0, "{lost:?} lost");
    for direction in Direction::ALL {
        let tally = recorded.get(direction);
        assert_eq!(tally.packets, rounds, "{direction:?}, of {rounds} datagrams each way");
        assert_eq!(tally.bytes, rounds * PACKET, "{direction:?}, bytes");
    }
    Ok(())
}

fn killed_again_and_again(lab: &Lab, task: &Task, attach: &str) -> Result<()> {
    let setup = || lab.daemon().window(1).set("attach", attach);
    // The first daemon is there before the first packet.
    let mut daemon = setup().also_output("text").also_output("parquet").start()?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    let mut out = daemon.out().to_path_buf();
    for pause in pauses() {
        thread::sleep(Duration::from_millis(pause));
        daemon.kill();
        thread::sleep(Duration::from_millis(pause / 4));
        daemon = started(setup().also_output("text").also_output("parquet"), task)?;
        out = daemon.out().to_path_buf();
    }
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
    let rounds = echo.stop()?;
    let said = daemon.said();
    daemon.stop()?;
    let records = Records::read(&out)?;
    assert_each_once(&records, task, rounds).map_err(|error| error.context(said))?;
    let gaps: Vec<&Record> = records
        .of(task.inside.mac())
        .filter(|record| record.flow.is_none() && record.tally.packets == 0)
        .filter(|record| record.text("log_status") == "SKIPDATA")
        .collect();
    assert!(gaps.is_empty(), "a gap is reported: {gaps:?}");
    assert_alike(&records, &out)
}

/// Asserts that text and Parquet say the same as JSON lines.
fn assert_alike(records: &Records, out: &Path) -> Result<()> {
    let (lines, _) = text::read(out)?;
    let mut text: Vec<_> = lines.into_iter().map(|line| line.facts).collect();
    let mut json: Vec<_> = records.all.iter().map(Record::facts).collect();
    text.sort();
    json.sort();
    assert_eq!(text.len(), json.len(), "text lines, and JSON lines");
    assert!(text == json, "text and JSON lines differ");
    let packets = finished(out, "log.parquet")?
        .iter()
        .map(|file| parquet::sum(file, "packets"))
        .sum::<Result<u64>>()?;
    let in_json: u64 = records
        .all
        .iter()
        .filter(|record| record.flow.is_some())
        .map(|record| record.tally.packets)
        .sum();
    assert_eq!(packets, in_json, "packets in Parquet, and in JSON lines");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_with_tcx() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    killed_again_and_again(&lab, &lab.task("task")?, "tcx")
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_with_clsact() -> Result<()> {
    let lab = lab!();
    killed_again_and_again(&lab, &lab.task("task")?, "clsact")
}

/// The thread of one output is stopped, so that it has written no window when the daemon is killed.
/// The other outputs have.
fn killed_before_it_has_written(lab: &Lab, thread: &str) -> Result<()> {
    let task = lab.task("task")?;
    let setup = || lab.daemon().window(1).also_output("text").also_output("parquet");
    let daemon = setup().start()?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    daemon.wait_windows(2)?;
    let frozen = daemon.freeze_thread(thread)?;
    daemon.wait_windows(2)?;
    let out = daemon.out().to_path_buf();
    daemon.kill_frozen(&frozen)?;
    let daemon = started(setup(), &task)?;
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
    let rounds = echo.stop()?;
    daemon.stop()?;
    let records = Records::read(&out)?;
    assert_each_once(&records, &task, rounds)?;
    assert_alike(&records, &out)
}

#[test]
fn windows_that_json_lines_had_not_written_are_written_by_the_next_run() -> Result<()> {
    killed_before_it_has_written(&lab!(), "sink-jsonl")
}

#[test]
fn windows_that_parquet_had_not_written_are_written_by_the_next_run() -> Result<()> {
    killed_before_it_has_written(&lab!(), "sink-parquet")
}

/// Without the journal's thread, the kernel's copy is cleared after a while.
#[test]
fn a_daemon_that_is_killed_while_its_journal_hangs_loses_by_number() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).start()?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    thread::sleep(Duration::from_secs(1));
    let frozen = daemon.freeze_thread("journal")?;
    thread::sleep(Duration::from_secs(3));
    daemon.kill_frozen(&frozen)?;
    let daemon = started(lab.daemon().window(1), &task)?;
    let rounds = echo.stop()?;
    let stopped = daemon.stop()?;
    let records = Records::read(&stopped.out)?;
    let recorded = records.recorded(task.inside.mac());
    let lost = records.lost(task.inside.mac());
    assert!(lost.packets <= 2 * rounds, "{lost}, of {rounds} each way");
    assert_eq!(
        recorded.ingress.packets + recorded.egress.packets + lost.packets,
        2 * rounds,
        "{recorded} recorded, {lost} lost"
    );
    Ok(())
}

#[test]
fn an_upgrade_with_on_stop_keep_loses_nothing() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    let task = lab.task("task")?;
    let start = || lab.daemon().window(2).set("on-stop", "keep").start();
    let mut daemon = start()?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V6)?;
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(1500));
        daemon.stop()?;
        thread::sleep(Duration::from_millis(300));
        daemon = start()?;
    }
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
    let rounds = echo.stop()?;
    // The next daemon detaches what this one keeps, and writes what they count until then.
    daemon.stop()?;
    let stopped = lab.daemon().window(2).start()?.stop()?;
    let records = Records::read(&stopped.out)?;
    let recorded: Crossed = records.recorded(task.inside.mac());
    assert!(recorded.get(Direction::Ingress).packets >= rounds, "{recorded:?} of {rounds}");
    assert_eq!(records.lost(task.inside.mac()).packets, 0);
    Ok(())
}

#[test]
fn detach_removes_what_a_killed_daemon_leaves() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    for attach in ["auto", "clsact"] {
        let task = lab.task(&format!("task-{attach}"))?;
        let daemon = lab.daemon().set("attach", attach).start()?;
        daemon.wait_attached(&task.inside)?;
        daemon.kill();
        let left = lab.daemon().set("attach", attach).detach()?;
        ensure!(left.status.success(), "{}", left.stderr);
        for side in ["ingress", "egress"] {
            let filters = ["filter", "show", "dev", task.inside.name(), side];
            let filters = task.inside.namespace().output("tc", &filters)?;
            assert_eq!(filters, "", "{side} filters");
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let place = lab.path("").display().to_string();
        assert!(!mounts.contains(&format!("bpf {place}")), "{mounts}");
    }
    Ok(())
}
