//! Tasks of every network mode that start and end at random.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use observer_tests::{
    docker,
    ecs_host::EcsHost,
    fake_ecs, lab,
    metrics::Metrics,
    need,
    records::Records,
    tally::Tally,
    veth::{Addresses, Mac, Task},
};

use super::{UDP, accounts::assert_accounts, asked, held::Held, workers::Churn};

/// Duration of the churn: `OBSERVER_CHURN_SECONDS`, or 45 s.
fn seconds() -> Duration {
    Duration::from_secs(asked("OBSERVER_CHURN_SECONDS", 45))
}

/// True if only the instance's own interface is observed.
fn none_left(page: &Metrics) -> bool {
    page.get("observer_interfaces", &[("state", "attached")]) == Some(1.0)
}

/// Starts and stops one task of each mode, so that one-time resources exist.
fn one_of_each(churn: &Churn<'_>) -> Result<()> {
    for mode in ["bridge", "awsvpc", "host"] {
        let mac = Mac::fresh();
        let live = churn.start(mode, mac)?;
        Churn::talk(&live)?;
        churn.stop(live)?;
    }
    Ok(())
}

/// Runs a worker for each mode, while the instance sends; returns the instance's traffic.
fn come_and_go(churn: &Churn<'_>, eni: &Task) -> Result<Tally> {
    let until = Instant::now() + seconds();
    let mut sent = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = [("awsvpc", 1), ("bridge", 2), ("host", 3)]
            .map(|(mode, seed)| scope.spawn(move || churn.run(mode, seed, until)))
            .into();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            sent += UDP.send(&eni.inside, &eni.outside)?;
            thread::sleep(Duration::from_millis(100));
        }
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    Ok(sent)
}

/// Asserts that the daemon holds no more resources than before.
fn assert_nothing_left(before: Held, after: Held) {
    assert_eq!(
        (after.descriptors, after.programs, after.links, after.threads),
        (before.descriptors, before.programs, before.links, before.threads),
        "descriptors, programs, links and threads"
    );
    // Connections to the Docker Engine are kept for reuse, as many as there were parallel requests.
    assert!(
        after.sockets <= before.sockets + 8,
        "{} sockets, {} before",
        after.sockets,
        before.sockets
    );
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    assert!(grown < 4096, "{grown} KiB more are resident");
}

#[test]
fn tasks_of_all_modes_that_come_and_go_keep_their_names_and_leave_nothing() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let world = lab.other_namespace("world")?;
    let eni_space = host.host.again(&lab.path("peers").join("host"))?;
    let addresses = Addresses { ipv6: false, ..Addresses::default() };
    let eni_mac = Mac::fresh();
    let eni = Task::attach(eni_space, world, eni_mac, addresses)?;
    let file =
        fake_ecs::write(&lab.path("tasks.json"), [&EcsHost::ecs(eni_mac, "instance", 0xfff)])?;
    let daemon = lab
        .daemon()
        // Records wait for a name as long as a window. The engine of a busy machine takes seconds
        // to give one.
        .window(15)
        // The default sources: the engine alone reports a container that ends at once too late.
        .sources(&["netns", "docker", "host"])
        .set("netns-dir", host.docker.netns_dir())
        .set("docker-socket", host.docker.socket())
        .tasks_file(&file)
        .inside(&host.host)
        .start()?;
    daemon.wait_attached(&eni.inside)?;

    let churn = Churn::new(&host);
    one_of_each(&churn)?;
    daemon.wait("the first tasks are gone", none_left)?;
    let before = Held::at_rest(&daemon)?;

    let sent = come_and_go(&churn, &eni)?;
    daemon.wait("all tasks are gone", none_left)?;
    let after = Held::at_rest(&daemon)?;
    let missed =
        daemon.metrics()?.sum("observer_lost_packets_total", &[("reason", "before_attach")]);
    let stopped = daemon.stop()?;
    let records = Records::read(&stopped.out).with_context(|| stopped.said.clone())?;
    let ended = churn.into_ended();
    println!(
        "{} tasks, {} records, {missed} packets before the programs; before {before:?}, after {after:?}",
        ended.len(),
        records.all.len()
    );
    assert_eq!(records.recorded(eni_mac).egress, sent, "what the host sent");
    assert_accounts(&records, eni_mac, &ended).with_context(|| stopped.said.clone())?;
    assert_nothing_left(before, after);
    Ok(())
}
