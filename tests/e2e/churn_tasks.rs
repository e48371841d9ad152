//! Tasks of every network mode that start and end at random in a real Docker Engine, and tasks that
//! live for an instant.

use std::{
    collections::BTreeMap,
    env, fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use observer_tests::{
    counters::Counters,
    daemon::Daemon,
    docker::{self, Container},
    ecs_host::{BRIDGE_MAC, EcsHost, RunningTask},
    fake_ecs::{self, FakeTask},
    lab,
    lab::Lab,
    need,
    netns::Namespace,
    poll,
    records::{Records, Status},
    tally::{Direction, Tally},
    traffic::Udp,
    veth::{Addresses, Family, Mac, Task, ip_batch},
};

use crate::docker::assert_names;

/// Most tasks of each mode.
const SLOTS: usize = 10;
/// Length of the link header, which interface counters include and records do not.
const LINK_HEADER: u64 = 14;

/// Duration of the churn: `OBSERVER_CHURN_SECONDS`, or 45 s.
fn seconds() -> Duration {
    Duration::from_secs(asked("OBSERVER_CHURN_SECONDS", 45))
}

fn asked(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Deterministic pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// A running task.
enum Live {
    Awsvpc(Box<(RunningTask, Task)>),
    Bridge(RunningTask, Namespace),
    Host(RunningTask),
}

/// Total traffic of a task's interface when it was stopped.
struct Ended {
    ecs: FakeTask,
    carried: Tally,
}

/// State shared by the workers.
struct Churn<'a> {
    host: &'a EcsHost<'a>,
    ended: Mutex<BTreeMap<String, Ended>>,
    number: AtomicU32,
    started: AtomicUsize,
}

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 5, payload: 64 };

impl Churn<'_> {
    /// Starts a task, with the MAC address and the IP address of its slot.
    fn start(&self, mode: &str, mac: Mac) -> Result<Live> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.started.fetch_add(1, Ordering::Relaxed);
        let ecs = EcsHost::ecs(mac, &format!("{mode}-{number}"), number);
        Ok(match mode {
            "awsvpc" => {
                let (running, task) = self.host.awsvpc(ecs, mac, 1)?;
                Live::Awsvpc(Box::new((running, task)))
            }
            "bridge" => {
                let running = self.host.bridge(ecs, 1)?;
                let space = self.host.namespace(&running.containers[0])?;
                self.join(&running.containers[0], &space)?;
                Live::Bridge(running, space)
            }
            _ => Live::Host(self.host.without_namespace(ecs, "host")?),
        })
    }

    /// Adds a container and its bridge to each other's neighbour tables, so that there is no ARP.
    fn join(&self, container: &Container, space: &Namespace) -> Result<()> {
        let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.MacAddress}}{{end}}";
        let known = self.host.docker.output(["inspect", "-f", address, &container.id])?;
        let (address, mac) = known.split_once(' ').context("address and MAC")?;
        ip_batch(
            space,
            &format!("neigh replace {GATEWAY} lladdr {BRIDGE_MAC} dev eth0 nud permanent\n"),
        )?;
        ip_batch(
            &self.host.host,
            &format!("neigh replace {address} lladdr {mac} dev ecsbr0 nud permanent\n"),
        )
    }

    fn talk(live: &Live) -> Result<()> {
        match live {
            Live::Awsvpc(it) => drop(UDP.send(&it.1.inside, &it.1.outside)?),
            Live::Bridge(_, space) => {
                drop(space.output("ping", &["-c", "3", "-i", "0.01", GATEWAY])?)
            }
            Live::Host(_) => {}
        }
        Ok(())
    }

    fn stop(&self, live: Live) -> Result<()> {
        let (running, carried) = match live {
            Live::Awsvpc(it) => {
                let (running, task) = *it;
                let carried = carried(task.inside.namespace())?;
                drop(task.end());
                (running, carried)
            }
            Live::Bridge(running, space) => {
                let carried = carried(&space)?;
                (running, carried)
            }
            Live::Host(running) => (running, Tally::default()),
        };
        self.host.stop(&running)?;
        let ended = Ended { ecs: running.ecs, carried };
        self.ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ended.ecs.id.clone(), ended);
        Ok(())
    }

    /// Starts and stops tasks of one mode, and sends traffic, until the time is over.
    fn run(&self, mode: &str, seed: u64, until: Instant) -> Result<()> {
        let mut dice = Dice(seed);
        let macs: Vec<Mac> = (0..SLOTS).map(|_| Mac::fresh()).collect();
        let mut slots: Vec<Option<Live>> = (0..SLOTS).map(|_| None).collect();
        while Instant::now() < until {
            let slot = dice.roll(SLOTS);
            slots[slot] = match slots[slot].take() {
                None => Some(self.start(mode, macs[slot])?),
                Some(live) if dice.roll(3) == 0 => {
                    self.stop(live)?;
                    // The next task has the same MAC and IP address at once.
                    Some(self.start(mode, macs[slot])?)
                }
                Some(live) if dice.roll(2) == 0 => {
                    self.stop(live)?;
                    None
                }
                some => some,
            };
            for live in slots.iter().flatten() {
                Self::talk(live)?;
            }
        }
        slots.into_iter().flatten().try_for_each(|live| self.stop(live))
    }
}

const GATEWAY: &str = "10.77.0.1";

/// Traffic of a task's interface, both directions, without link headers.
fn carried(space: &Namespace) -> Result<Tally> {
    let frames = Counters::read(space, "eth0")?.frames;
    let all: Tally = Direction::ALL.into_iter().map(|direction| frames.get(direction)).sum();
    Ok(Tally::new(all.packets, all.bytes - all.packets * LINK_HEADER))
}

/// Resources of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// Descriptors, except connections and record files.
    descriptors: usize,
    sockets: usize,
    programs: usize,
    links: usize,
    threads: usize,
    resident_kib: u64,
}

impl Held {
    fn read(daemon: &Daemon<'_>) -> Result<Self> {
        let process = format!("/proc/{}", daemon.pid());
        let leads = daemon.descriptors()?;
        let count = |what: &str| leads.iter().filter(|lead| lead.contains(what)).count();
        let status = fs::read_to_string(format!("{process}/status"))?;
        let number = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| name.to_owned())?;
            Ok(line
                .trim_start_matches(':')
                .split_whitespace()
                .next()
                .context("a number")?
                .parse()?)
        };
        Ok(Self {
            descriptors: leads.len() - count("socket:"),
            sockets: count("socket:"),
            programs: count("bpf-prog"),
            links: count("bpf_link") + count("bpf-link"),
            threads: number("Threads")? as usize,
            resident_kib: number("VmRSS")?,
        })
    }

    /// The minimum over time, once stable: a scan opens a folder for an instant, which is longer on
    /// a busy machine. A leak is always present.
    fn at_rest(daemon: &Daemon<'_>) -> Result<Self> {
        const WATCHED: Duration = Duration::from_secs(3);
        let mut before = Self::least(daemon, WATCHED)?;
        poll::until("the daemon is at rest", poll::PATIENCE, || {
            let now = Self::least(daemon, WATCHED)?;
            let same = Self { resident_kib: before.resident_kib, ..now } == before;
            before = now;
            Ok(same.then_some(now))
        })
    }

    /// The minimum of each resource within this time.
    fn least(daemon: &Daemon<'_>, within: Duration) -> Result<Self> {
        let start = Instant::now();
        let mut least = Self::read(daemon)?;
        while start.elapsed() < within {
            thread::sleep(Duration::from_millis(20));
            let now = Self::read(daemon)?;
            least = Self {
                descriptors: least.descriptors.min(now.descriptors),
                sockets: least.sockets.min(now.sockets),
                programs: least.programs.min(now.programs),
                links: least.links.min(now.links),
                threads: least.threads.min(now.threads),
                resident_kib: now.resident_kib,
            };
        }
        Ok(least)
    }
}

/// Asserts that all records except the instance's have their task's names, and that records and
/// losses add up to the traffic of the task's interface.
fn assert_accounts(
    records: &Records,
    instance: Mac,
    ended: &BTreeMap<String, Ended>,
) -> Result<()> {
    let mut accounts = BTreeMap::<&str, Tally>::new();
    let mut reports = BTreeMap::<&str, u64>::new();
    for record in records.all.iter().filter(|record| record.text("mac") != instance.to_string()) {
        let task = ended.get(record.text("ecs_task_id"));
        let task = task.with_context(|| format!("a record of no task: {:?}", record.fields))?;
        assert_names(record, &task.ecs);
        // A window may end before its container starts.
        let container = record.text("ecs_container_id");
        assert!(
            ["", &task.ecs.containers[0]].contains(&container),
            "{container} in {}",
            task.ecs.id
        );
        // A new bridge reports its groups by IGMP, 40 bytes each, possibly after its task's
        // interface counters were read.
        if record.text("dstaddr") == "224.0.0.22" {
            *reports.entry(&task.ecs.id).or_default() += record.tally.packets;
        } else {
            *accounts.entry(&task.ecs.id).or_default() += record.tally;
        }
    }
    for (id, task) in ended {
        let account = accounts.get(id.as_str()).copied().unwrap_or_default();
        let reports = reports.get(id.as_str()).copied().unwrap_or_default();
        let account = (0..=reports)
            .map(|read| account + Tally::new(read, 40 * read))
            .find(|account| *account == task.carried)
            .unwrap_or(account);
        let of_it: Vec<_> = records
            .all
            .iter()
            .filter(|record| record.text("ecs_task_id") == id)
            .map(|it| &it.fields)
            .collect();
        assert_eq!(
            account, task.carried,
            "records and losses of task {id} ({}), and its interface; {of_it:?}",
            task.ecs.mode
        );
    }
    Ok(())
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

    let churn = Churn {
        host: &host,
        ended: Mutex::default(),
        number: AtomicU32::new(0x1000),
        started: AtomicUsize::new(0),
    };
    // One task of each mode first, so that one-time resources exist.
    for mode in ["bridge", "awsvpc", "host"] {
        let mac = Mac::fresh();
        let live = churn.start(mode, mac)?;
        Churn::talk(&live)?;
        churn.stop(live)?;
    }
    let none_left = |page: &observer_tests::metrics::Metrics| {
        page.get("observer_interfaces", &[("state", "attached")]) == Some(1.0)
    };
    daemon.wait("the first tasks are gone", none_left)?;
    let before = Held::at_rest(&daemon)?;

    let until = Instant::now() + seconds();
    let mut sent = Tally::default();
    thread::scope(|scope| -> Result<()> {
        let churn = &churn;
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
    daemon.wait("all tasks are gone", none_left)?;
    let after = Held::at_rest(&daemon)?;
    let missed =
        daemon.metrics()?.sum("observer_lost_packets_total", &[("reason", "before_attach")]);
    let stopped = daemon.stop()?;
    let records = Records::read(&stopped.out).with_context(|| stopped.said.clone())?;
    let ended = churn.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{} tasks, {} records, {missed} packets before the programs; before {before:?}, after {after:?}",
        ended.len(),
        records.all.len()
    );
    assert_eq!(records.recorded(eni_mac).egress, sent, "what the host sent");
    assert_accounts(&records, eni_mac, &ended).with_context(|| stopped.said.clone())?;
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
    Ok(())
}

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

#[test]
fn tasks_of_200_ms_have_their_record_or_a_counted_gap() -> Result<()> {
    const AT_ONCE: usize = 2;
    let lab = lab!(alone);
    let wanted = asked("OBSERVER_SHORT_TASKS", 60) as usize;
    let daemon = lab.daemon().window(5).start()?;
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
                        let it = moment(&lab, &format!("moment-{number}"))?;
                        lived.lock().unwrap_or_else(PoisonError::into_inner).push(it);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
    })?;
    daemon.wait("all are gone", |page| {
        page.get("observer_interfaces", &[("state", "attached")]) == Some(0.0)
    })?;
    let missed = daemon.metrics()?.sum("observer_interfaces_missed_total", &[]);
    let report = daemon.wait_report("a report", |_| true)?;
    let stopped = daemon.stop()?;
    let records = Records::read(&stopped.out)?;
    let lived = lived.into_inner().unwrap_or_else(PoisonError::into_inner);
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

#[test]
fn a_namespace_with_the_inode_of_one_from_before_the_daemon_is_a_new_one() -> Result<()> {
    let lab = lab!(alone);
    let older: Vec<_> = (0..4)
        .map(|number| lab.other_namespace(&format!("older-{number}")))
        .collect::<Result<_>>()?;
    let inodes: Vec<_> = older.iter().map(Namespace::inode).collect();
    let daemon = lab.daemon().start()?;
    drop(older);
    let (mut number, mut sent) = (0, 0);
    poll::until_true("an inode is used again", poll::PATIENCE, || {
        number += 1;
        daemon.freeze()?;
        let task = lab.late_task(&format!("early-{number}"))?;
        let early = UDP.send(&task.inside, &task.outside)?;
        daemon.thaw()?;
        daemon.wait_attached(&task.inside)?;
        sent += early.packets;
        let lost = daemon.metrics()?.sum("observer_lost_packets_total", &[("stage", "attach")]);
        assert_eq!(lost, sent, "lost before the programs came, with task {number}");
        Ok(inodes.contains(&task.inside.namespace().inode()))
    })
}

#[test]
fn what_a_task_sends_before_it_is_observed_is_counted_as_lost() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().start()?;
    // The daemon notices the task as late as possible.
    daemon.freeze()?;
    let task = lab.late_task("early")?;
    let early = UDP.send(&task.inside, &task.outside)?;
    daemon.thaw()?;
    daemon.wait_attached(&task.inside)?;
    let later = UDP.send(&task.inside, &task.outside)?;
    let page = daemon.metrics()?;
    assert_eq!(
        page.sum(
            "observer_lost_packets_total",
            &[("stage", "attach"), ("reason", "before_attach")]
        ),
        early.packets
    );
    let mac = task.inside.mac();
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac).egress, later, "records, and what was sent in time");
    assert_eq!(records.lost(mac), early, "SKIPDATA, and what was sent too early");
    Ok(())
}
