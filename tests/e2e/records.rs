//! Records in every format: text, Parquet and JSON lines of one run, read by DuckDB, ClickHouse,
//! pyarrow and flowlogs-reader.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    capture::{ETHERNET, Order, Packet, pcap},
    daemon::{command, run_to_end},
    fake_ecs::{self, FakeTask},
    lab, need, parquet,
    python::Python,
    records::{DEFAULT_FIELDS, Record, Records, finished},
    rows::{self, FILES, Row},
    tally::{Crossed, Tally},
    text,
    traffic::{Udp, frames, ping},
    veth::{Addresses, Family},
};

/// Formats, with their number of fields and the version in their records.
const FORMATS: [(&str, &str, usize, u64); 6] = [
    ("v2", "v2", 14, 2),
    ("ecs", "ecs", 40, 8),
    ("all", "all", 54, 11),
    ("one", "${bytes}", 1, 2),
    ("mixed", "${end} ${srcaddr} ${ecs-service-name} ${log-status} ${version}", 5, 7),
    (
        "late",
        "${log-status} ${traffic-path} ${next-hop-az-id} ${interface-id} ${tcp-flags} ${packets}",
        6,
        11,
    ),
];

/// Column names of a text header, in the style of the other formats.
fn columns(header: &str) -> Vec<String> {
    header.split(' ').map(|name| name.replace('-', "_")).collect()
}

fn of_json(record: &Record, columns: &[String]) -> Row {
    let value = |column: &String| match record.fields.get(column) {
        None | Some(serde_json::Value::Null) => None,
        Some(serde_json::Value::String(text)) => Some(text.clone()),
        Some(value) => Some(value.to_string()),
    };
    columns.iter().map(value).collect()
}

fn of_text(line: &str) -> Row {
    line.split(' ').map(|word| (word != "-").then(|| word.to_owned())).collect()
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

#[test]
fn every_reader_finds_the_same_rows_in_every_format() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let tasks = lab.tasks(["busy", "silent"].map(String::from))?;
    let [busy, silent] = &tasks[..] else { anyhow::bail!("two tasks") };
    let ecs = FakeTask::new(&busy.inside, "web", 1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemons = FORMATS.map(|(name, format, ..)| {
        let setup = lab.daemon().name(name).window(1).also_output("text").also_output("parquet");
        setup.tasks_file(&file).set("log-format", format).set("region", "us-east-1").start()
    });
    let mut sent = Crossed::default();
    for family in Family::ALL {
        let udp = Udp { family, flows: 20, packets: 2, payload: 1 };
        sent += Crossed::egress(udp.send(&busy.inside, &busy.outside)?);
        let pings = ping(&busy.outside, &busy.inside, family, 3, 56)?;
        sent += Crossed { ingress: pings.each_way, egress: pings.each_way };
    }
    for ((name, format, fields, version), daemon) in FORMATS.into_iter().zip(daemons) {
        let daemon = daemon?;
        daemon.wait_windows(1)?;
        let out = daemon.out().to_path_buf();
        let books = Books::close(daemon, [&busy.inside, &silent.inside])?;
        books.assert_exact(&busy.inside, sent);
        let (header, lines) = text::lines(&out)?;
        let columns = columns(&header);
        assert_eq!(columns.len(), fields, "{format}");
        let json: Vec<Row> =
            books.records.all.iter().map(|record| of_json(record, &columns)).collect();
        let expected = sorted(json);
        assert!(expected.len() > 40, "{} rows", expected.len());
        assert_eq!(
            sorted(lines.iter().map(|line| of_text(line)).collect()),
            expected,
            "{name}: text"
        );
        for record in &books.records.all {
            assert_eq!(record.number("version"), Some(version), "{format}");
        }
        let flags = ["--log-format".to_owned(), format.to_owned()];
        let read =
            rows::read(&python, &out, &FILES, &columns, &flags, &lab.path(&format!("{name}-sql")))?;
        assert_eq!(read.len(), 3 * FILES.len() + 1, "readers and formats");
        for (who, rows) in read {
            let rows = sorted(rows);
            assert!(rows == expected, "{name}: {who:?} reads\n{rows:?}\nand not\n{expected:?}");
        }
    }
    Ok(())
}

#[test]
fn a_task_s_records_say_whose_they_are_in_every_format() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0xa1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let setup = lab.daemon().also_output("text").also_output("parquet").tasks_file(&file);
    let daemon = setup.set("log-format", "all").set("vpc-cidr", "10.0.0.0/8").start()?;
    let sent = Udp { family: Family::V4, flows: 3, packets: 2, payload: 5 }
        .send(&task.inside, &task.outside)?;
    let out = daemon.out().to_path_buf();
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    let (header, _) = text::lines(&out)?;
    let columns = columns(&header);
    let flags = ["--log-format".to_owned(), "all".to_owned()];
    let read = rows::read(&python, &out, &FILES, &columns, &flags, &lab.path("sql"))?;
    for (who, rows) in read {
        assert_eq!(rows.len(), 3, "{who:?}");
        for row in rows {
            let row: BTreeMap<&str, &str> = columns
                .iter()
                .zip(&row)
                .filter_map(|(column, value)| Some((column.as_str(), value.as_deref()?)))
                .collect();
            for (column, value) in [
                ("account_id", ecs.account.as_str()),
                ("interface_id", &ecs.eni),
                ("subnet_id", &ecs.subnet),
                ("region", &ecs.region),
                ("ecs_cluster_arn", &ecs.cluster_arn()),
                ("ecs_service_name", "web"),
                ("ecs_task_arn", &ecs.arn_of_task()),
                ("ecs_task_id", &ecs.id),
                ("ecs_task_definition_arn", &ecs.definition_arn()),
                ("ecs_container_instance_id", &ecs.instance_id()),
                ("ecs_container_id", &ecs.containers[0]),
                ("ecs_second_container_id", &ecs.containers[1]),
                ("flow_direction", "egress"),
                ("type", "IPv4"),
                ("tcp_flags", "0"),
                ("version", "11"),
            ] {
                assert_eq!(row.get(column), Some(&value), "{who:?}: {column}");
            }
            for column in ["next_hop_vpc_id", "reject_reason", "instance_tag", "encryption_status"]
            {
                assert_eq!(row.get(column), None, "{who:?}: {column}, which no host can know");
            }
        }
    }
    Ok(())
}

#[test]
fn filters_keep_records_out_of_all_outputs_and_the_metrics_stay_whole() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let setup = lab.daemon().also_output("text").also_output("stdout");
    let daemon =
        setup.set("filter", "keep protocol=icmp").set("filter", "drop protocol!=icmpv6").start()?;
    let udp = Udp { family: Family::V4, flows: 5, packets: 3, payload: 9 }
        .send(&task.inside, &task.outside)?;
    let pings = ping(&task.outside, &task.inside, Family::V4, 4, 56)?;
    let sent = Crossed { ingress: pings.each_way, egress: pings.each_way + udp };
    daemon.wait("all is counted", |page| {
        let recorded = page.recorded(&task.inside);
        recorded.ingress == sent.ingress && recorded.egress == sent.egress
    })?;
    let out = daemon.out().to_path_buf();
    let stopped = daemon.stop()?;
    let records = Records::read(&out)?;
    let kept = Crossed { ingress: pings.each_way, egress: pings.each_way };
    assert_eq!(records.recorded(task.inside.mac()), kept);
    let facts: Vec<_> = {
        let mut facts: Vec<_> = records.all.iter().map(Record::facts).collect();
        facts.sort();
        facts
    };
    assert_eq!(facts.len(), 2, "a record each way");
    let (lines, _) = text::read(&out)?;
    let printed = stopped.stdout.lines().map(text::Line::parse).collect::<Result<Vec<_>>>()?;
    for lines in [lines, printed] {
        let mut lines: Vec<_> = lines.into_iter().map(|line| line.facts).collect();
        lines.sort();
        assert_eq!(lines, facts);
    }
    Ok(())
}

#[test]
fn what_is_filtered_is_counted() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (first, last) = (Udp::FIRST_PORT, Udp::FIRST_PORT + 2);
    let rule = format!("drop srcport={first}-{last}");
    let daemon = lab.daemon().window(1).also_output("text").set("filter", rule).start()?;
    let udp = Udp { family: Family::V4, flows: 5, packets: 3, payload: 9 };
    let sent = udp.send(&task.inside, &task.outside)?;
    let dropped = Udp { flows: 3, ..udp };
    let dropped: Tally = (0..dropped.flows).map(|_| dropped.per_flow()).sum();
    daemon.wait("what is filtered is counted", |page| {
        let sum = |what: &str| page.sum(&format!("observer_filtered_{what}_total"), &[]);
        Tally::new(sum("packets"), sum("bytes")) == dropped
            && page.recorded(&task.inside).egress == sent
    })?;
    let stopped = daemon.stop()?;
    let written = Records::read(&stopped.out)?.recorded(task.inside.mac()).egress;
    assert_eq!(written + dropped, sent);
    Ok(())
}

#[test]
fn like_aws_what_it_never_logs_is_left_out_on_demand() -> Result<()> {
    let lab = lab!();
    let usual = Addresses::default();
    // The peer has the IPv4 address of Amazon's time service.
    let task = lab.task_with(
        "task",
        Addresses {
            inside: (Ipv4Addr::new(169, 254, 169, 7), usual.inside.1),
            outside: (Ipv4Addr::new(169, 254, 169, 123), usual.outside.1),
            ..usual
        },
    )?;
    let daemons = [("all", "false"), ("parity", "true")]
        .map(|(name, parity)| lab.daemon().name(name).set("aws-parity", parity).start());
    let [v4, v6] = Family::ALL.map(|family| {
        Udp { family, flows: 2, packets: 3, payload: 9 }.send(&task.inside, &task.outside)
    });
    let (v4, v6) = (v4?, v6?);
    let mut recorded = Vec::new();
    for daemon in daemons {
        let daemon = daemon?;
        daemon.wait("all is counted", |page| page.recorded(&task.inside).egress == v4 + v6)?;
        let stopped = daemon.stop()?;
        recorded.push(Records::read(&stopped.out)?.recorded(task.inside.mac()).egress);
    }
    assert_eq!(recorded, [v4 + v6, v6]);
    Ok(())
}

#[test]
fn the_fourteen_fields_are_in_every_json_line_whatever_the_format() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("log-format", "${vpc-id} ${bytes}").start()?;
    let stopped = {
        daemon.wait_attached(&task.inside)?;
        daemon.stop()?
    };
    let records = Records::read(&stopped.out)?;
    let record = records.of(task.inside.mac()).next().context("a NODATA record")?;
    for field in DEFAULT_FIELDS {
        assert!(record.fields.contains_key(field), "{field}");
    }
    assert_eq!(record.number("version"), Some(3));
    Ok(())
}

#[test]
fn a_dictionary_that_grows_too_large_is_given_up_and_every_reader_goes_on() -> Result<()> {
    // Enough sources to fill a dictionary of a megabyte twice, and more rows than a row group has.
    const FLOWS: u16 = 60_000;
    const SAME: u16 = 10_000;
    let lab = lab!();
    let python = need!(Python::find());
    let packet = |number: u16| {
        let source =
            Ipv6Addr::new(0x2001, 0xdb8, 0xabcd, 0xabcd, 0xabcd, 0xabcd, 0xabcd, number.min(FLOWS));
        let udp = frames::udp(number, 53, 1);
        let frame = frames::ethernet(
            frames::ether_type::IPV6,
            &frames::Ipv6::new(source, frames::protocol::UDP, udp).bytes(),
        );
        Packet::new(1_767_225_600_000_000_000 + u64::from(number) * 1_000, frame)
    };
    let twice = (0..FLOWS).chain((0..SAME).map(|number| number % 5)).map(packet);
    let capture = lab.path("capture.pcap");
    fs::write(&capture, pcap(Order::Little, ETHERNET, true, &twice.collect::<Vec<_>>()))?;
    let out = lab.path("out");
    let format = "${srcaddr} ${srcport} ${packets} ${interface-id} ${vpc-id}";
    let mut replay = command()?;
    replay.arg("replay").arg(&capture).args(["--local", "2001:db8::/32", "--log-format", format]);
    replay.args(["--output", "parquet", "--output-dir"]).arg(&out);
    let exit = run_to_end(&mut replay, Duration::from_mins(1))?;
    assert!(exit.status.success(), "{}", exit.stderr);

    let files = finished(&out, "log.parquet")?;
    let mut encodings = Vec::new();
    for file in &files {
        parquet::columns(file)?;
        encodings.extend(parquet::encodings(file, "srcaddr")?);
    }
    let given_up =
        |pages: &Vec<String>| pages.iter().collect::<std::collections::BTreeSet<_>>().len() == 2;
    assert!(
        encodings.iter().any(given_up),
        "no column chunk with a dictionary and plain values: {encodings:?}"
    );
    let columns = ["srcaddr", "srcport", "packets", "vpc_id"].map(String::from);
    let flags = ["--log-format".to_owned(), format.to_owned()];
    let read = rows::read(&python, &out, &["parquet"], &columns, &flags, &lab.path("sql"))?;
    assert_eq!(read.len(), 4, "readers");
    for (who, rows) in read {
        assert_eq!(rows.len(), usize::from(FLOWS), "{who:?}");
        let packets: u64 =
            rows.iter().filter_map(|row| row[2].as_deref()?.parse::<u64>().ok()).sum();
        assert_eq!(packets, u64::from(FLOWS) + u64::from(SAME), "{who:?}");
        for row in rows {
            let port: u16 = row[1].as_deref().context("a port")?.parse()?;
            let source: Ipv6Addr = row[0].as_deref().context("an address")?.parse()?;
            assert_eq!(source.segments()[7], port, "{who:?}: values of two rows in one");
            assert_eq!(row[3], None, "{who:?}");
        }
    }
    Ok(())
}
