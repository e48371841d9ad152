//! Time for which a new task's packets are not counted: from the first packet on its interface to
//! the first counted one.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    lab::Lab,
    metrics::Metrics,
    netns::Namespace,
    records::{Records, Status},
    veth::{Mac, ip_batch},
};

use crate::report::{Report, Target};

const TASKS: usize = 200;
const TARGET_MS: f64 = 50.0;
/// Interval of datagrams, each to its own port.
const STEP: Duration = Duration::from_millis(1);
const DATAGRAMS: u16 = 120;
const FIRST_PORT: u16 = 10_000;
const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const HISTOGRAM: &str = "observer_attach_latency_seconds_bucket";

pub(crate) fn run() -> Result<Report> {
    let lab = Lab::new("bench-attach", 1)?;
    let daemon = lab.daemon().window(5).start()?;
    let mut sent = BTreeMap::new();
    for number in 0..TASKS {
        let (mac, times) = start_task(&lab, number)?;
        sent.insert(mac.to_string(), times);
    }
    let page = daemon.metrics()?;
    let records = Records::read(&daemon.stop()?.out)?;
    let mut first = BTreeMap::<&str, u16>::new();
    for record in records.all.iter().filter(|record| record.status == Status::Ok) {
        let Some((_, flow)) = record.flow else { continue };
        if (FIRST_PORT..FIRST_PORT + DATAGRAMS).contains(&flow.destination_port) {
            let number = flow.destination_port - FIRST_PORT;
            first
                .entry(record.text("mac"))
                .and_modify(|it| *it = number.min(*it))
                .or_insert(number);
        }
    }
    let mut latencies = Vec::new();
    for (mac, times) in &sent {
        let number =
            first.get(mac.as_str()).with_context(|| format!("nothing of {mac} was counted"))?;
        latencies.push((times[usize::from(*number)] - times[0]).as_secs_f64() * 1000.0);
    }
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share).ceil() as usize];

    let mut report = Report::default();
    let step = [STEP.as_secs_f64() * 1000.0];
    let target = Some(Target::Value(TARGET_MS));
    report.row(
        "first packet counted, median of 200 tasks · between packets",
        "ms",
        &[at(0.5)],
        &step,
        target,
    );
    report.row("first packet counted, p99 · between packets", "ms", &[at(0.99)], &step, target);
    report.row("first packet counted, worst · between packets", "ms", &[at(1.0)], &step, None);
    let own = quantile(&page, 0.99)? * 1000.0;
    report.row(
        "the daemon's own histogram, p99 at most · between packets",
        "ms",
        &[own],
        &step,
        target,
    );
    Ok(report)
}

/// Starts a task in the order of the ECS agent: namespace first, then the ENI is moved in, renamed,
/// addressed and set up. Returns the time of each datagram.
fn start_task(lab: &Lab, number: usize) -> Result<(Mac, Vec<Instant>)> {
    let space = lab.observed_namespace(&format!("task-{number}"))?;
    let host = lab.other_namespace(&format!("host-{number}"))?;
    let mac = Mac::fresh();
    let make = "link add name ens6 type veth peer name peer\nlink set peer arp off up\n";
    ip_batch(&host, &format!("{make}link set ens6 address {mac}\n"))?;
    let times = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&space));
        let target = space.path().display();
        ip_batch(&host, &format!("link set ens6 netns {target} name eth0\n"))?;
        ip_batch(
            &space,
            &format!("link set eth0 arp off\naddr add {OWN}/24 dev eth0\nlink set eth0 up\n"),
        )?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
    })?;
    Ok((mac, times))
}

/// Sends datagrams from the moment that the interface accepts them.
fn send(space: &Namespace) -> Result<Vec<Instant>> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    space.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let mut times = Vec::new();
        while times.len() < usize::from(DATAGRAMS) {
            ensure!(begun.elapsed() < PATIENCE, "the interface takes no packet");
            let now = Instant::now();
            if socket.send_to(&[0], (OTHER, FIRST_PORT + times.len() as u16)).is_ok() {
                times.push(now);
                thread::sleep(STEP);
            } else {
                thread::sleep(STEP / 10);
            }
        }
        Ok(times)
    })
}

/// Upper bound of the histogram bucket with this quantile, in seconds.
fn quantile(page: &Metrics, share: f64) -> Result<f64> {
    let bounds =
        page.all(HISTOGRAM, &[]).map(|bucket| (bucket.label("le").to_owned(), bucket.value));
    let mut bounds: Vec<(f64, f64)> = bounds
        .map(|(bound, count)| Ok((bound.replace("+Inf", "inf").parse()?, count)))
        .collect::<Result<_>>()?;
    bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = bounds.last().context("the histogram of attach latencies")?.1;
    ensure!(all > 0.0, "the daemon saw no interface appear");
    let bound = bounds.iter().find(|(_, count)| *count >= all * share);
    Ok(bound.map_or(f64::INFINITY, |(bound, _)| *bound))
}
