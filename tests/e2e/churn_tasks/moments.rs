//! Tasks that live for an instant.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow};
use observer_tests::{
    lab,
    lab::Lab,
    poll,
    records::{Records, Status},
    tally::Tally,
    traffic::Udp,
    veth::{Addresses, Family, Mac, Task},
};

use super::{asked, carried};

/// Traffic of a short-lived task: sent, and accepted by its interface.
struct Moment {
    mac: Mac,
    sent: Tally,
    carried: Tally,
}

/// Starts a task that sends a datagram as soon as possible, and ends it after 200 ms.
fn moment(lab: &Lab, name: &str) -> Result<Moment> {
    let (inside, outside) = (lab.observed_namespace(name)?, lab.other_namespace(name)?);
    let task = Task::join(inside, outside, Addresses { ipv6: false, ..Addresses::default() })?;
    let one = Udp { family: Family::V4, flows: 1, packets: 1, payload: 64 };
    let mut sent = Tally::default();
    // The kernel drops packets until it has set up the interface's queues.
    poll::until_true("the interface takes a packet", poll::PATIENCE, || {
        sent += one.send(&task.inside, &task.outside)?;
        Ok(carried(task.inside.namespace())?.packets > 0)
    })?;
    thread::sleep(Duration::from_millis(200));
    let moment =
        Moment { mac: task.inside.mac(), sent, carried: carried(task.inside.namespace())? };
    drop(task.end());
    Ok(moment)
}

/// Starts and ends this many short-lived tasks, several at once.
fn moments(lab: &Lab, wanted: usize) -> Result<Vec<Moment>> {
    const AT_ONCE: usize = 2;
    let next = AtomicUsize::new(0);
    let lived = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= wanted {
                            return Ok(());
                        }
                        let it = moment(lab, &format!("moment-{number}"))?;
                        lived.lock().unwrap_or_else(PoisonError::into_inner).push(it);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    Ok(lived.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn tasks_of_200_ms_have_their_record_or_a_counted_gap() -> Result<()> {
    let lab = lab!(alone);
    let wanted = asked("OBSERVER_SHORT_TASKS", 60) as usize;
    let daemon = lab.daemon().window(5).start()?;
    let lived = moments(&lab, wanted)?;
    daemon.wait("all are gone", |page| {
        page.get("observer_interfaces", &[("state", "attached")]) == Some(0.0)
    })?;
    let missed = daemon.metrics()?.sum("observer_interfaces_missed_total", &[]);
    let report = daemon.wait_report("a report", |_| true)?;
    let stopped = daemon.stop()?;
    let records = Records::read(&stopped.out)?;
    let (mut recorded, mut gaps, mut gone, mut unseen) = (0, 0, 0_u64, 0);
    for Moment { mac, sent, carried } in &lived {
        let egress = records.recorded(*mac).egress;
        let lost = records.lost(*mac);
        // The amount is unknown; if the interface went while programs were attached, part of it may
        // be recorded.
        let marks = records.with_status(*mac, Status::SkipData);
        gone += u64::from(marks.iter().any(|record| record.tally == Tally::default()));
        // Packets dropped by the queues are counted only if the programs were attached before.
        if (carried.packets..=sent.packets).contains(&(egress + lost).packets) {
            recorded += usize::from(egress.packets > 0);
            gaps += usize::from(lost.packets > 0);
        } else if marks.is_empty() {
            unseen += 1;
            println!(
                "{mac}: sent {sent:?}, carried {carried:?}, recorded {egress:?}, lost {lost:?}"
            );
        }
    }
    println!(
        "{} tasks: {recorded} recorded, {gaps} with a counted gap, {gone} gone too early, {unseen} neither",
        lived.len()
    );
    assert_eq!(
        (missed, report.missed()),
        (gone, gone),
        "interfaces that were gone before they were observed; {}",
        stopped.said
    );
    // 99.9 %
    assert!(
        unseen * 1000 <= lived.len(),
        "{unseen} of {} have neither record nor gap",
        lived.len()
    );
    Ok(())
}
