//! More flows than memory. Every packet is in a record or in the count of lost packets.

mod costs;
mod flood;

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    ops::Range,
    panic,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use observer_tests::{
    books::Books,
    cpus, lab,
    records::{Flow, Status},
    tally::{Crossed, Direction, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv4, LINK_HEADER, ipv4_at, protocol, udp},
    },
};

use self::flood::{flood, lost_for, source, spilled};

/// Far more flows than the minimum memory holds.
const MANY: u64 = 150_000;

#[test]
fn a_map_that_is_full_evicts_no_flow_silently() -> Result<()> {
    const FLOWS: u64 = 1_000_000;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).set("flow-memory", "2MiB").start()?;
    let room = daemon.metrics()?.sum("observer_flow_cache_flows", &[]);
    assert!(room < FLOWS / 100, "room for {room} flows is too much of {FLOWS}");
    let mut sent = Tally::default();
    for _ in 0..2 {
        sent += flood(&task.outside, 0..FLOWS)?;
    }
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    let lost = books.lost(&task.inside);
    println!("{sent} sent, {lost} lost, room for {room} flows");
    assert!(spilled(&books.metrics) > 0, "no entry came by the ring");
    assert_eq!(
        lost_for(&books.metrics, "table_full"),
        lost,
        "lost because the table was full, and lost at all"
    );
    Ok(())
}

#[test]
fn what_no_longer_fits_while_the_daemon_stands_still_is_lost_by_number() -> Result<()> {
    let lab = lab!(alone);
    let task = lab.task("task")?;
    // All in one window, except around its end.
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    let mut sent = flood(&task.outside, 0..MANY)?;
    daemon.freeze()?;
    sent += flood(&task.outside, 0..MANY)?;
    sent += flood(&task.outside, 0..MANY)?;
    daemon.thaw()?;
    sent += flood(&task.outside, 0..MANY)?;
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));

    let lost = books.lost(&task.inside);
    assert!(lost.packets > MANY, "only {lost} of {sent} while nobody drained");
    let skipped =
        books.records.of(task.inside.mac()).filter(|record| record.status == Status::SkipData);
    let skipped = skipped.count();
    assert!((1..=2).contains(&skipped), "{skipped} SKIPDATA records in one window");
    let told = lost_for(&books.metrics, "table_full");
    assert_eq!(
        told, lost,
        "observer_lost_…_total{{reason=table_full}}, and the interface's ledger"
    );
    Ok(())
}

#[test]
fn a_stalled_reader_recovers_within_two_windows_and_hides_no_flow() -> Result<()> {
    const PROBES: Range<u64> = 0..500;
    const CROWD: Range<u64> = 1_000..1_000 + MANY;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).set("flow-memory", "4MiB").start()?;
    daemon.freeze()?;
    let mut sent = flood(&task.outside, CROWD)?;
    // Cache and ring are full: new flows evict others, and later ones evict them, and all of these
    // are lost.
    sent += flood(&task.outside, PROBES)?;
    sent += flood(&task.outside, CROWD)?;
    daemon.thaw()?;
    daemon.wait_windows(2)?;
    let before = daemon.metrics()?;
    assert!(lost_for(&before, "table_full").packets > MANY, "{}", before.shown("observer_lost"));

    let moment = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64;
    let again = flood(&task.outside, PROBES)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent + again));
    let lost = lost_for(&books.metrics, "table_full");
    assert_eq!(lost, lost_for(&before, "table_full"), "lost after two windows, and before");
    let since = books.records.with_status(task.inside.mac(), Status::SkipData);
    assert!(since.len() <= 2, "{} windows lost something, of which one stood still", since.len());

    // Whether its first packet was lost or not, no flow may stay unrecorded.
    let seen: BTreeSet<IpAddr> = books
        .records
        .with_status(task.inside.mac(), Status::Ok)
        .into_iter()
        .filter(|record| record.end >= moment)
        .filter_map(|record| Some(record.flow?.1.source))
        .collect();
    assert_eq!(seen, PROBES.map(|number| source(number).into()).collect(), "flows that came again");
    Ok(())
}

#[test]
fn a_full_table_of_one_task_takes_nothing_from_another() -> Result<()> {
    const STORM: Duration = Duration::from_secs(4);
    const STALLS: u32 = 3;
    /// Flows of the calm task in each round.
    const FLOWS: Range<u64> = 0..100;
    let lab = lab!(alone);
    let tasks = lab.tasks(["noisy", "calm"].map(String::from))?;
    let [noisy, calm] = &tasks[..] else { anyhow::bail!("two tasks") };
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    let start = Instant::now();
    let (noisy_sent, calm_sent) = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            cpus::on_each(|cpu| {
                let mut sent = Tally::default();
                while start.elapsed() < STORM {
                    let first = cpu as u64 * MANY;
                    sent += flood(&noisy.outside, first..first + MANY)?;
                }
                Ok(sent)
            })
        });
        let calmness = scope.spawn(|| {
            let mut sent = Tally::default();
            while start.elapsed() < STORM {
                sent += flood(&calm.outside, FLOWS)?;
                thread::sleep(Duration::from_millis(50));
            }
            anyhow::Ok(sent)
        });
        for _ in 0..STALLS {
            daemon.freeze()?;
            thread::sleep(STORM / STALLS / 4);
            daemon.thaw()?;
            thread::sleep(STORM / STALLS / 2);
        }
        let stormed = storm.join().unwrap_or_else(|it| panic::resume_unwind(it))?;
        let calmness = calmness.join().unwrap_or_else(|it| panic::resume_unwind(it))?;
        anyhow::Ok((stormed.into_iter().sum::<Tally>(), calmness))
    })?;
    let books = Books::close_in_brief(daemon, tasks.iter().map(|task| &task.inside))?;
    books.assert_conserved(&noisy.inside, Crossed::ingress(noisy_sent));
    books.assert_exact(&calm.inside, Crossed::ingress(calm_sent));
    let lost = books.lost(&noisy.inside);
    println!("{noisy_sent} of noise, of which {lost} lost; {calm_sent} of the calm task");
    assert!(lost.packets > 1_000, "cache and ring were never full: the noise has lost {lost}");
    Ok(())
}

#[test]
fn tuples_chosen_to_collide_find_as_much_room_as_others() -> Result<()> {
    const SIDE: u64 = 128;
    const FLOWS: u64 = SIDE * SIDE;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    // A plain multiplication has only 256 values for keys that differ in the uppermost bytes of two
    // words.
    let template = Ipv4::new([10, 9, 0, 0].into(), protocol::UDP, udp(53, 53, 30)).frame();
    let daemon = lab.daemon().start()?;
    let socket = PacketSocket::open(&task.outside)?;
    let sent = socket.send_each(&template, 0..2 * FLOWS, |number, frame| {
        frame[ipv4_at::SOURCE].copy_from_slice(&[10, 9, 0, (number % SIDE) as u8]);
        frame[ipv4_at::DESTINATION].copy_from_slice(&[10, 9, 1, (number / SIDE % SIDE) as u8]);
    })?;
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    let sent = Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER);
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let spilled = spilled(&books.metrics);
    println!("{spilled} entries of {FLOWS} flows found no room");
    assert!(spilled < FLOWS / 10, "{spilled} entries of {FLOWS} flows found no room");
    Ok(())
}

#[test]
fn a_storm_of_new_flows_on_all_cpus_is_no_reason_to_evict_or_to_record_twice() -> Result<()> {
    const THREADS: u64 = 4;
    const EACH: u64 = 100_000;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).start()?;
    let cpus = cpus::allowed()?;
    let sent = thread::scope(|scope| {
        let storm = |thread: u64| {
            cpus::pin(cpus[thread as usize % cpus.len()])?;
            flood(&task.outside, thread * EACH..(thread + 1) * EACH)
        };
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || storm(thread))).collect();
        let ended =
            threads.into_iter().map(|it| it.join().unwrap_or_else(|it| panic::resume_unwind(it)));
        ended.sum::<Result<Tally>>()
    })?;
    let books = Books::close_in_brief(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    // Each flow has exactly one packet and one record.
    let flows: BTreeSet<(Direction, Flow)> =
        books.records.flows(task.inside.mac()).map(|it| it.0).collect();
    assert_eq!(flows.len() as u64, THREADS * EACH, "flows");
    assert_eq!(books.records.flows(task.inside.mac()).count(), flows.len(), "records");
    assert!(books.records.flows(task.inside.mac()).all(|(_, record)| record.tally.packets == 1));
    Ok(())
}

#[test]
fn no_map_of_the_daemon_is_an_lru_that_evicts_by_itself() -> Result<()> {
    // Values of `enum bpf_map_type` with a bound: hash maps, which refuse entries beyond it (those
    // of the drops), arrays, per-CPU arrays, arrays of maps and of programs, ring buffers.
    const KEEPING: [&str; 6] = ["1", "2", "3", "6", "12", "27"];
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    daemon.wait_attached(&task.inside)?;
    let mut types = Vec::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid()))?.flatten() {
        // A descriptor may be closed in the meantime.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let kind = info.lines().find_map(|line| line.strip_prefix("map_type:"));
        types.extend(kind.map(|kind| kind.trim().to_owned()));
    }
    daemon.stop()?;
    assert!(
        types.iter().any(|kind| kind == "27"),
        "the daemon holds maps of the types {types:?} only"
    );
    for kind in types {
        assert!(KEEPING.contains(&kind.as_str()), "a map of type {kind}");
    }
    Ok(())
}

#[test]
fn the_loss_counter_itself_loses_nothing_while_it_is_scraped() -> Result<()> {
    const EACH: u64 = 400_000;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    let mut packet = Ipv4::new([10, 9, 0, 1].into(), protocol::UDP, udp(1, 2, 10));
    packet.version_and_length = Some(0x55);
    let frame = packet.frame();
    let over = AtomicBool::new(false);
    let (sent, scrapes) = thread::scope(|scope| {
        let scraping = scope.spawn(|| {
            let mut scrapes = vec![lost_for(&daemon.metrics()?, "ip_version")];
            while !over.load(Ordering::Relaxed) {
                scrapes.push(lost_for(&daemon.metrics()?, "ip_version"));
            }
            anyhow::Ok(scrapes)
        });
        let sent = cpus::on_each(|_| {
            PacketSocket::open(&task.outside)?.send_each(&frame, 0..EACH, |_, _| {})
        });
        over.store(true, Ordering::Relaxed);
        let scrapes = scraping.join().unwrap_or_else(|it| panic::resume_unwind(it))?;
        let sent: Tally = sent?.into_iter().sum();
        anyhow::Ok((Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER), scrapes))
    })?;
    for pair in scrapes.windows(2) {
        let [before, after] = pair else { continue };
        assert!(
            after.packets >= before.packets && after.bytes >= before.bytes,
            "{after} after {before}"
        );
    }
    assert_eq!(scrapes.first().copied(), Some(Tally::default()), "lost before anything was sent");
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    assert_eq!(books.lost(&task.inside), sent, "lost, and sent");
    assert_eq!(lost_for(&books.metrics, "ip_version"), sent, "lost for the version, and sent");
    println!("{} scrapes", scrapes.len());
    Ok(())
}
