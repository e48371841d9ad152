//! Tasks that start and end while the daemon runs.

use std::{
    fs,
    os::unix::fs::symlink,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{net::if_::if_nametoindex, sys::signal::Signal};
use observer_tests::{
    books::Books,
    counters::Counters,
    daemon::Daemon,
    lab,
    lab::Lab,
    need,
    netns::Namespace,
    poll,
    records::{Records, Status},
    requires,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket, Udp,
        frames::{Ipv4, protocol},
    },
    veth::{Addresses, Family, Mac, Task, ip_batch},
};

/// Longest time for the kernel to remove a namespace and its interfaces.
const GONE: Duration = Duration::from_secs(1);

/// Starts a task, sends, and ends it; returns its MAC address and its traffic.
fn visit(lab: &Lab, daemon: &Daemon<'_>, name: &str, packets: u64) -> Result<(Mac, Tally)> {
    let task = lab.late_task(name)?;
    daemon.wait_attached(&task.inside)?;
    let sent = Udp { family: Family::V4, flows: 2, packets, payload: 64 }
        .send(&task.inside, &task.outside)?;
    let mac = task.inside.mac();
    end(task, daemon)?;
    Ok((mac, sent))
}

/// Ends a task, and checks that the daemon does not keep its namespace.
fn end(task: Task, daemon: &Daemon<'_>) -> Result<()> {
    let (inode, name) = (task.inside.namespace().inode(), task.inside.name());
    let start = Instant::now();
    let peer = task.end();
    // The pair is removed with the namespace, and the namespace with its last user.
    poll::until_true("the peer of the task's interface is gone", poll::PATIENCE, || {
        peer.run(|| Ok(if_nametoindex(name).is_err()))
    })
    .with_context(|| format!("namespace {inode}"))?;
    let took = start.elapsed();
    assert!(took < poll::stretched(GONE), "the namespace was held for {took:?}");
    assert_eq!(
        holds(daemon, inode)?,
        Vec::<String>::new(),
        "the daemon's hold on namespace {inode}"
    );
    Ok(())
}

/// Descriptors and threads of the daemon that keep a namespace.
fn holds(daemon: &Daemon<'_>, inode: u64) -> Result<Vec<String>> {
    let wanted = format!("net:[{inode}]");
    let process = format!("/proc/{}", daemon.pid());
    let links = fs::read_dir(format!("{process}/fd"))?.flatten().map(|entry| entry.path());
    let threads =
        fs::read_dir(format!("{process}/task"))?.flatten().map(|entry| entry.path().join("ns/net"));
    // A descriptor or thread that has ended in the meantime keeps nothing.
    let leads = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy() == wanted)
    };
    Ok(links.chain(threads).filter(leads).map(|path| path.display().to_string()).collect())
}

#[test]
fn a_task_that_comes_and_goes_is_recorded_exactly() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().start()?;
    let (mac, sent) = visit(&lab, &daemon, "visitor", 500)?;
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent), "records, and what was sent");
    assert_eq!(records.lost(mac), Tally::default(), "lost");
    Ok(())
}

#[test]
fn a_task_that_comes_and_goes_under_clsact_is_recorded_exactly() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().set("attach", "clsact").start()?;
    let (mac, sent) = visit(&lab, &daemon, "visitor", 500)?;
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent), "records, and what was sent");
    Ok(())
}

#[test]
fn tasks_that_come_and_go_leave_nothing_in_the_daemon() -> Result<()> {
    const ROUNDS: u64 = 10;
    let lab = lab!();
    let daemon = lab.daemon().window(2).start()?;
    let descriptors = || Ok::<_, anyhow::Error>(daemon.descriptors()?.len());
    let mut visits = vec![visit(&lab, &daemon, "first", 10)?];
    daemon.wait_windows(2)?;
    // Spare programs for the next interfaces are still being loaded.
    let mut before = descriptors()?;
    poll::until_true("the descriptors are settled", poll::PATIENCE, || {
        thread::sleep(Duration::from_secs(1));
        let earlier = std::mem::replace(&mut before, descriptors()?);
        Ok(earlier == before)
    })?;
    for round in 0..ROUNDS {
        // The same name and path, with another namespace.
        visits.push(visit(&lab, &daemon, "again", 20 + round)?);
    }
    daemon.wait_windows(2)?;
    let page = daemon.metrics()?;
    assert_eq!(page.all("observer_interface_info", &[]).count(), 0, "interfaces on the page");
    // The connection of the scrape may still be closing.
    poll::until_true("all descriptors are closed", poll::PATIENCE, || Ok(descriptors()? <= before))
        .with_context(|| format!("{} descriptors, {before} before", descriptors().unwrap_or(0)))?;

    let records = Records::read(&daemon.stop()?.out)?;
    for (mac, sent) in visits {
        assert_eq!(
            records.recorded(mac),
            Crossed::egress(sent),
            "records, and what was sent by {mac}"
        );
    }
    Ok(())
}

#[test]
fn the_end_of_a_namespace_that_a_task_knows_disturbs_no_task() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks((0..3).map(|number| format!("task-{number}")))?;
    // Every namespace has its own numbers for the others. In the first task's namespace, these have
    // the numbers that the tasks have in the host's, and the kernel announces their end by those
    // numbers to all listeners for all namespaces.
    let mut doomed = Vec::new();
    for id in 1..60 {
        let namespace = lab.other_namespace(&format!("doomed-{id}"))?;
        tasks[0].inside.namespace().number(&namespace, id)?;
        doomed.push(namespace);
    }

    let daemon = lab.daemon().window(1).start()?;
    let udp = Udp { family: Family::V4, flows: 2, packets: 50, payload: 64 };
    let mut sent = vec![Tally::default(); tasks.len()];
    let mut all_send = || -> Result<()> {
        for (task, sent) in tasks.iter().zip(&mut sent) {
            *sent += udp.send(&task.inside, &task.outside)?;
        }
        Ok(())
    };
    all_send()?;
    drop(doomed);
    daemon.wait_windows(2)?;
    all_send()?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for (task, sent) in tasks.iter().zip(sent) {
        books.assert_exact(&task.inside, Crossed::egress(sent));
    }
    Ok(())
}

#[test]
fn an_interface_that_comes_into_a_known_namespace_is_observed() -> Result<()> {
    let lab = lab!();
    let (space, other) = (lab.observed_namespace("late")?, lab.other_namespace("late")?);
    let daemon = lab.daemon().start()?;
    let task = Task::join(space, other, Addresses { ipv6: false, ..Addresses::default() })?;
    daemon.wait_attached(&task.inside)?;
    let sent = Udp { family: Family::V4, flows: 1, packets: 100, payload: 64 }
        .send(&task.outside, &task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    Ok(())
}

#[test]
fn a_task_that_ends_while_the_daemon_stands_still_is_free_at_once() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let sent = Udp { family: Family::V4, flows: 1, packets: 100, payload: 64 }
        .send(&task.inside, &task.outside)?;
    let mac = task.inside.mac();
    daemon.freeze()?;
    end(task, &daemon)?;
    daemon.thaw()?;
    let records = Records::read(&daemon.stop_by(Signal::SIGTERM)?.out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent), "records, and what was sent");
    assert_eq!(records.with_status(mac, Status::SkipData).len(), 0, "SKIPDATA");
    Ok(())
}

#[test]
fn a_task_that_ends_while_the_tick_is_late_has_its_last_records_in_the_next_window() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    daemon.wait_attached(&task.inside)?;
    let tick = daemon.freeze_thread("tick")?;
    // The window's time is over when the packets cross and when the task ends, but the window is
    // not closed yet.
    thread::sleep(Duration::from_millis(1500));
    let udp = Udp { family: Family::V4, flows: 2, packets: 50, payload: 64 };
    let sent = udp.send(&task.inside, &task.outside)?;
    let mac = task.inside.mac();
    drop(task);
    daemon.wait_said("no longer observing an interface")?;
    // The message comes just before the tick.
    thread::sleep(Duration::from_millis(200));
    drop(tick);
    daemon.wait_windows(2)?;
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent), "records, and what was sent");
    Ok(())
}

#[test]
fn an_interface_that_moves_out_of_its_namespace_is_no_longer_observed() -> Result<()> {
    // As the ECS agent does with the ENI of a stopped task.
    for attach in ["auto", "clsact"] {
        let lab = lab!();
        let task = lab.late_task("task")?;
        let host = lab.other_namespace("host")?;
        let daemon = lab.daemon().window(1).set("attach", attach).start()?;
        let udp = Udp { family: Family::V4, flows: 2, packets: 50, payload: 64 };
        let sent = udp.send(&task.inside, &task.outside)?;
        let name = task.inside.name();
        ip_batch(
            task.inside.namespace(),
            &format!(
                "link set {name} down\nlink set {name} name ecs639 netns {}\n",
                host.path().display()
            ),
        )?;
        daemon.wait("the interface that moved is off the page", |page| {
            page.info(&task.inside).is_none()
        })?;
        let said = daemon.said();
        let of_interface = |line: &&str| {
            ["WARN", "ERROR"].iter().any(|level| line.contains(level)) && line.contains("interface")
        };
        assert_eq!(said.lines().find(of_interface), None);
        ip_batch(&host, "link set ecs639 up\n")?;
        let frame = Ipv4::new([10, 9, 0, 1].into(), protocol::UDP, Vec::new()).frame();
        poll::until_true("frames reach the interface again", poll::PATIENCE, || {
            PacketSocket::open(&task.outside)?.send([&frame])?;
            Ok(Counters::read(&host, "ecs639")?.frames.ingress.packets > 0)
        })?;
        let stopped = daemon.stop()?;
        let recorded = Records::read(&stopped.out)?.recorded(task.inside.mac());
        let said = stopped.said;
        assert_eq!(
            recorded,
            Crossed::egress(sent),
            "records, and what was sent before it moved ({attach}); {said}"
        );
    }
    Ok(())
}

#[test]
fn a_namespace_with_several_files_is_counted_once_while_one_is_left() -> Result<()> {
    let lab = lab!();
    let task = lab.task("named")?;
    let others = ["a-first", "z-last"].map(|name| lab.netns_dir().join(name));
    for other in &others {
        task.inside.namespace().bind(other)?;
    }
    let daemon = lab.daemon().window(1).start()?;
    let udp = Udp { family: Family::V4, flows: 2, packets: 50, payload: 64 };
    let mut sent = udp.send(&task.inside, &task.outside)?;
    for other in &others {
        Namespace::unbind(other)?;
        daemon.wait_windows(2)?;
        sent += udp.send(&task.inside, &task.outside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    let all: u64 = books.records.all.iter().map(|record| record.tally.packets).sum();
    assert_eq!(all, sent.packets, "packets in all records");
    Ok(())
}

#[test]
fn what_is_no_namespace_is_passed_over() -> Result<()> {
    let lab = lab!();
    let folder = lab.netns_dir();
    let task = lab.task("task")?;
    fs::write(folder.join("plain"), "no namespace")?;
    fs::create_dir(folder.join("folder"))?;
    symlink(folder.join("loop"), folder.join("loop"))?;
    symlink("/proc/self/ns/mnt", folder.join("other-kind"))?;
    let daemon = lab.daemon().start()?;
    // The namespace's file exists, but nothing is mounted on it for a while.
    fs::write(folder.join("not-yet"), "")?;
    let late = lab.late_task("late")?;
    daemon.wait_attached(&late.inside)?;
    let udp = Udp { family: Family::V4, flows: 2, packets: 50, payload: 64 };
    let sent = [udp.send(&task.inside, &task.outside)?, udp.send(&late.inside, &late.outside)?];
    let books = Books::close(daemon, [&task.inside, &late.inside])?;
    for (task, sent) in [&task, &late].into_iter().zip(sent) {
        books.assert_exact(&task.inside, Crossed::egress(sent));
    }
    Ok(())
}
