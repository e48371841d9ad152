//! The metrics page agrees with the records and passes Prometheus's own linter.

use std::{
    env, fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    fake_ecs::{self, FakeTask},
    lab,
    metrics::Metrics,
    need, poll,
    records::Records,
    requires,
    tally::{Crossed, Direction},
    traffic::{Connection, Transfer, Udp, exchange, ping},
    veth::{Family, Task},
};

const REASONS: [&str; 6] =
    ["table_full", "ip_truncated", "ip_version", "ip_header_length", "ip_total_length", "internal"];

#[test]
fn every_reason_and_kind_is_there_at_the_first_scrape() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().start_unready()?;
    // The first page that the daemon serves.
    let page = poll::until("there is a page", poll::PATIENCE, || {
        let answer = daemon.get("/metrics").ok().filter(|answer| answer.status == 200);
        Ok(answer.map(|answer| answer.body))
    })?;
    let page = Metrics::parse(&page)?;
    for reason in REASONS {
        for name in ["observer_lost_packets_total", "observer_lost_bytes_total"] {
            let value = page.get(name, &[("stage", "kernel"), ("reason", reason)]);
            assert_eq!(value, Some(0.0), "{name}, {reason}, in\n{}", page.shown("observer_lost"));
        }
    }
    for (name, label, values) in [
        (
            "observer_non_ip_frames_total",
            "kind",
            ["arp", "other", "vlan_depth", "short"].as_slice(),
        ),
        (
            "observer_notes_packets_total",
            "note",
            &[
                "transport_truncated",
                "extension_truncated",
                "extension_limit",
                "later_fragment",
                "tunnel_unread",
            ],
        ),
        ("observer_records_total", "log_status", &["OK", "NODATA", "SKIPDATA"]),
    ] {
        for value in values {
            assert_eq!(
                page.get(name, &[(label, value)]),
                Some(0.0),
                "{name}, {value}, in\n{}",
                page.shown(name)
            );
        }
    }
    assert!(page.all("observer_build_info", &[]).count() == 1, "observer_build_info");
    assert_eq!(page.get("observer_windows_total", &[]), Some(0.0), "observer_windows_total");
    daemon.wait_attached(&task.inside)?;
    let page = daemon.metrics()?;
    let id = page.info(&task.inside).context("info")?.label("interface").to_owned();
    for reason in REASONS {
        for direction in Direction::ALL {
            let labels =
                [("interface", id.as_str()), ("direction", direction.as_str()), ("reason", reason)];
            let name = "observer_interface_lost_packets_total";
            assert_eq!(page.get(name, &labels), Some(0.0), "{name}, {labels:?}");
        }
    }
    daemon.stop()?;
    Ok(())
}

/// Sends 100 datagrams, 3 and 4 pings of the IP versions, and a TCP connection; returns the
/// interface's traffic and the connection's.
fn several_protocols(task: &Task) -> Result<(Crossed, Connection)> {
    let udp = Udp { family: Family::V4, flows: 4, packets: 25, payload: 10 };
    let pings = [
        ping(&task.outside, &task.inside, Family::V4, 3, 8)?,
        ping(&task.outside, &task.inside, Family::V6, 4, 8)?,
    ];
    let transfer = Transfer { family: Family::V6, request: 10, response: 100_000 };
    let tcp = exchange(&task.outside, &task.inside, transfer)?;
    let mut crossed = Crossed { ingress: tcp.from_client, egress: tcp.from_server };
    crossed.egress += udp.send(&task.inside, &task.outside)?;
    for pings in pings {
        crossed += Crossed { ingress: pings.each_way, egress: pings.each_way };
    }
    Ok((crossed, tcp))
}

/// Checks the packets of a protocol in one direction: in the task's series and in the interface's.
fn check_series(
    books: &Books,
    ecs: &FakeTask,
    interface: &str,
    (protocol, direction): (&str, &str),
    packets: u64,
) {
    let labels = [
        ("cluster", &*ecs.cluster),
        ("service", ecs.service.as_deref().unwrap_or("")),
        ("family", &ecs.family),
        ("network_mode", "awsvpc"),
        ("direction", direction),
        ("protocol", protocol),
    ];
    let told = books.metrics.sum("observer_packets_total", &labels);
    assert_eq!(told, packets, "{labels:?} in\n{}", books.metrics.shown("observer_packets_total"));
    let of_interface = [("interface", interface), ("direction", direction), ("protocol", protocol)];
    let told = books.metrics.sum("observer_interface_recorded_packets_total", &of_interface);
    assert_eq!(told, packets, "{of_interface:?} in\n{}", books.metrics.shown("observer_interface"));
}

#[test]
fn series_carry_the_task_and_add_up_to_the_ledger() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks(["web", "batch"].map(String::from))?;
    let [web, batch] = &tasks[..] else { anyhow::bail!("two tasks") };
    let (web_ecs, batch_ecs) =
        (FakeTask::new(&web.inside, "web", 1), FakeTask::new(&batch.inside, "batch", 2));
    let file = fake_ecs::write(&lab.path("tasks.json"), [&web_ecs, &batch_ecs])?;
    let daemon = lab.daemon().window(1).tasks_file(&file).start()?;
    let sent = tasks.iter().map(several_protocols).collect::<Result<Vec<_>>>()?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for ((task, ecs), (crossed, tcp)) in tasks.iter().zip([&web_ecs, &batch_ecs]).zip(sent) {
        books.assert_exact(&task.inside, crossed);
        let info = books.metrics.info(&task.inside).context("info")?;
        for (label, expected) in [
            ("interface_id", ecs.eni.as_str()),
            ("interface_name", "eth0"),
            ("task_arn", &ecs.arn_of_task()),
            ("task_id", &ecs.id),
        ] {
            assert_eq!(info.label(label), expected, "{label} of observer_interface_info");
        }
        for (protocol, direction, packets) in [
            ("tcp", "ingress", tcp.from_client.packets),
            ("tcp", "egress", tcp.from_server.packets),
            ("udp", "egress", 100),
            ("icmp", "ingress", 3),
            ("icmpv6", "egress", 4),
        ] {
            let interface = info.label("interface");
            check_series(&books, ecs, interface, (protocol, direction), packets);
        }
    }
    Ok(())
}

#[test]
fn counters_never_go_back() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    let mut before = daemon.metrics()?;
    for round in 1..=20 {
        Udp { family: Family::V4, flows: 3, packets: 10, payload: round }
            .send(&task.outside, &task.inside)?;
        let now = daemon.metrics()?;
        for sample in &now.samples {
            let family = sample
                .name
                .trim_end_matches("_bucket")
                .trim_end_matches("_sum")
                .trim_end_matches("_count");
            let kind = now.types.get(&sample.name).or_else(|| now.types.get(family));
            let monotone = kind.is_some_and(|kind| kind == "counter" || kind == "histogram");
            let labels: Vec<_> =
                sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            if let Some(then) = before.get(&sample.name, &labels).filter(|_| monotone) {
                assert!(
                    sample.value >= then,
                    "{} {labels:?}: {} after {then}",
                    sample.name,
                    sample.value
                );
            }
        }
        before = now;
    }
    daemon.stop()?;
    Ok(())
}

#[test]
fn health_and_readiness_answer() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().start()?;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(daemon.get(path)?.status, 200, "{path}");
    }
    assert_eq!(daemon.get("/nothing-here")?.status, 404);
    let answer = daemon.get("/metrics")?;
    let headers = answer.headers.to_ascii_lowercase();
    assert!(headers.contains("content-type: text/plain; version=0.0.4"), "{headers}");
    daemon.stop()?;
    Ok(())
}

/// Type, meaning and labels of every metric. With `UPDATE_EXPECT=1` this test writes the file.
const SHAPE: &str = include_str!("../../observer/golden/metrics.txt");

#[test]
fn metrics_and_labels_are_those_of_the_file() -> Result<()> {
    let lab = lab!();
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemon = lab.daemon().window(1).tasks_file(&file).start()?;
    Udp { family: Family::V4, flows: 3, packets: 10, payload: 1 }
        .send(&task.outside, &task.inside)?;
    daemon.wait_windows(1)?;
    let shape = daemon.metrics()?.shape();
    daemon.stop()?;
    if env::var_os("UPDATE_EXPECT").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../observer/golden/metrics.txt");
        return Ok(fs::write(file, shape)?);
    }
    let lines: (Vec<_>, Vec<_>) = (shape.lines().collect(), SHAPE.lines().collect());
    assert_eq!(lines.0, lines.1, "now, and in observer/golden/metrics.txt");
    Ok(())
}

#[test]
fn promtool_finds_nothing_to_say() -> Result<()> {
    let lab = lab!();
    let promtool = need!(requires::program("promtool"));
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemon = lab.daemon().window(1).tasks_file(&file).start()?;
    Udp { family: Family::V4, flows: 3, packets: 10, payload: 1 }
        .send(&task.outside, &task.inside)?;
    daemon.wait_windows(1)?;
    let page = daemon.metrics()?.text;
    daemon.stop()?;
    let mut judge = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    judge.stdin.take().context("stdin")?.write_all(page.as_bytes())?;
    let output = judge.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "promtool ({}):\n{said}",
        output.status
    );
    Ok(())
}

/// Totals of a service's series, both directions together.
fn of_service(page: &Metrics, service: &str) -> u64 {
    page.sum("observer_packets_total", &[("service", service)])
}

#[test]
fn totals_of_a_service_outlive_its_tasks_and_count_those_that_no_scrape_saw() -> Result<()> {
    let lab = lab!();
    let lasting = lab.task("lasting")?;
    let short = lab.late_task("short")?;
    let (web, batch) =
        (FakeTask::new(&lasting.inside, "web", 1), FakeTask::new(&short.inside, "batch", 2));
    let file = fake_ecs::write(&lab.path("tasks.json"), [&web, &batch])?;
    let daemon = lab.daemon().window(1).set("file-size", "1B").tasks_file(&file).start()?;
    let udp = Udp { family: Family::V4, flows: 2, packets: 10, payload: 10 };
    let mut sent = udp.send(&lasting.inside, &lasting.outside)?.packets;
    let before =
        daemon.wait("the lasting one is counted", |page| of_service(page, "web") == sent)?;
    let mac = short.inside.mac();
    let crossed = udp.send(&short.inside, &short.outside)?.packets;
    // No scrape until the task is gone and forgotten.
    drop(short.end());
    poll::until_true("its records are written", poll::PATIENCE, || {
        Ok(Records::read(daemon.out())?.recorded(mac).egress.packets == crossed)
    })?;
    daemon.wait("its service has them", |page| of_service(page, "batch") == crossed)?;
    sent += udp.send(&lasting.inside, &lasting.outside)?.packets;
    let after = daemon.wait("its series are gone", |page| {
        let gone = page.all("observer_interface_info", &[("service", "batch")]).next().is_none();
        gone && of_service(page, "web") == sent
    })?;
    assert_eq!(of_service(&after, "batch"), crossed, "{}", after.shown("observer_packets_total"));
    for name in ["observer_packets_total", "observer_seen_packets_total"] {
        let grew = after.sum(name, &[]) - before.sum(name, &[]);
        assert!(grew >= crossed + u64::from(udp.flows) * udp.packets, "{name} grew by {grew}");
    }
    // The invariant holds for the whole host too: seen + stopped = recorded + lost.
    let all = |name: &str| after.sum(name, &[]);
    let lost: u64 = ["kernel", "window"]
        .iter()
        .map(|stage| after.sum("observer_lost_packets_total", &[("stage", *stage)]))
        .sum();
    assert_eq!(
        all("observer_seen_packets_total") + all("observer_stopped_packets_total"),
        all("observer_packets_total") + lost,
        "{}",
        after.text
    );
    daemon.stop()?;
    Ok(())
}
