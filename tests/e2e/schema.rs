//! `observer schema`: its output runs unchanged in the readers.

use std::time::Duration;

use anyhow::Result;
use observer_tests::{
    daemon::{command, run_to_end},
    fake_ecs::{self, FakeTask},
    lab, need,
    python::Python,
    records::Records,
    rows::{self, FILES},
    tally::Crossed,
    traffic::Udp,
    veth::Family,
};

#[test]
fn a_fleet_s_folders_are_one_table_to_duckdb() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    // Two hosts of different accounts write to the same directory.
    let tasks = lab.tasks(["one", "two"].map(String::from))?;
    let fleet = lab.path("fleet");
    let mut sent = Crossed::default();
    for (number, (task, name)) in tasks.iter().zip(["one", "two"]).enumerate() {
        let mut ecs = FakeTask::new(&task.inside, name, number as u32);
        ecs.account = format!("{:012}", 111_111_111_111 * (number as u64 + 1));
        let file = fake_ecs::write(&lab.path(&format!("{name}.json")), [&ecs])?;
        let setup =
            lab.daemon().name(name).tasks_file(&file).also_output("text").also_output("parquet");
        let setup =
            setup.set("partition", "hive-hourly").set("log-format", "ecs").set("no-nodata", "true");
        let daemon = setup.set("deliver", format!("file://{}", fleet.display())).start()?;
        let udp = Udp { family: Family::V4, flows: 4, packets: 1 + number as u64, payload: 8 };
        sent += Crossed::egress(udp.send(&task.inside, &task.outside)?);
        daemon.wait("all is counted", |page| page.recorded(&task.inside).egress.packets > 0)?;
        daemon.stop()?;
    }
    let columns = ["account_id", "ecs_service_name", "packets"].map(String::from);
    let flags = ["--log-format", "ecs", "--partition", "hive-hourly"].map(String::from);
    let read = rows::read(&python, &fleet, &FILES, &columns, &flags, &lab.path("sql"))?;
    for (who, rows) in read {
        let packets: u64 =
            rows.iter().filter_map(|row| row[2].as_deref()?.parse::<u64>().ok()).sum();
        assert_eq!(packets, sent.egress.packets, "{who:?}");
        for (account, service) in [("111111111111", "one"), ("222222222222", "two")] {
            let of_task = |row: &&rows::Row| row[0].as_deref() == Some(account);
            let rows: Vec<_> = rows.iter().filter(of_task).collect();
            assert_eq!(rows.len(), 4, "{who:?}: {account}");
            assert!(rows.iter().all(|row| row[1].as_deref() == Some(service)), "{who:?}: {rows:?}");
        }
    }
    Ok(())
}

#[test]
fn every_json_line_is_what_the_json_schema_says() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemon = lab.daemon().window(1).tasks_file(&file).start()?;
    Udp { family: Family::V6, flows: 4, packets: 1, payload: 8 }
        .send(&task.inside, &task.outside)?;
    daemon.wait_windows(2)?;
    let out = daemon.stop()?.out;
    let schema: serde_json::Value =
        serde_json::from_str(&rows::schema("json", &out, "jsonl", &[])?)?;
    let properties = &schema["properties"];
    let records = Records::read(&out)?;
    assert!(records.all.len() >= 5, "{} records", records.all.len());
    for record in &records.all {
        for (key, value) in &record.fields {
            let types = &properties[key]["type"];
            let kind = match value {
                serde_json::Value::Null => "null",
                serde_json::Value::Number(_) => "integer",
                _ => "string",
            };
            let is_it = |it: &serde_json::Value| it == kind;
            let fits =
                types.as_array().map_or_else(|| is_it(types), |types| types.iter().any(is_it));
            assert!(fits, "{key} is {value}, and not {types}");
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(record.fields.contains_key(key.as_str().unwrap_or_default()), "{key}");
        }
    }
    Ok(())
}

#[test]
fn a_schema_that_cannot_be_says_what_to_do() -> Result<()> {
    for (arguments, word) in [
        (&["schema", "athena"][..], "--deliver s3://"),
        (&["schema", "vector", "--output", "parquet"], "--output jsonl or text"),
        (&["schema", "duckdb", "--output", "jsonl", "--output", "text"], "--output once"),
        (&["schema", "duckdb", "--output", "stdout"], "--output jsonl"),
        (&["schema", "vector", "--output", "text", "--deliver", "s3://logs"], "--region"),
        (&["schema", "excel"], "excel"),
        (&["schema", "duckdb", "--log-format", "${bits}"], "bits"),
    ] {
        let exit = run_to_end(command()?.args(arguments), Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(2), "{arguments:?}: {}", exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{arguments:?}: {}", exit.stderr);
        assert!(exit.stderr.contains(word), "{arguments:?}: {}", exit.stderr);
    }
    Ok(())
}
