//! Files that the daemon reads: configuration, tasks, address ranges.

use std::{fs, time::Duration};

use anyhow::Result;
use observer_tests::{daemon::run_to_end, lab};

use super::{USAGE, refused};

#[test]
fn a_configuration_file_must_be_there_and_understood() -> Result<()> {
    let lab = lab!();
    for (name, text, word) in [
        ("key", "widnow = 60\n", "widnow"),
        ("value", "hook = \"magic\"\n", "magic"),
        ("type", "window = \"soon\"\n", "line 1"),
        ("range", "flow-memory = \"none\"\n", "none"),
        ("syntax", "window = = 60\n", "line 1"),
    ] {
        let path = lab.path(&format!("{name}.toml"));
        fs::write(&path, text)?;
        refused(&lab, USAGE, word, |command| {
            command.arg("--config").arg(&path);
            Ok(())
        })?;
    }
    refused(&lab, USAGE, "nowhere.toml", |command| {
        command.arg("--config").arg(lab.path("nowhere.toml"));
        Ok(())
    })
}

#[test]
fn files_are_read_with_a_byte_order_mark_and_other_encodings_are_named() -> Result<()> {
    let lab = lab!();
    let ranges = r#"{"prefixes": [{"ip_prefix": "52.95.128.0/21", "service": "S3"}]}"#;
    for (flag, text) in [
        ("--config", "window = 10\n"),
        ("--ip-ranges", ranges),
        ("--tasks-file", "{\"tasks\": []}"),
    ] {
        let path = lab.path(flag.trim_start_matches('-'));
        let run = |bytes: &[u8]| {
            fs::write(&path, bytes)?;
            let mut command = observer_tests::daemon::command()?;
            command.args(["tasks", "--no-daemon", "--source", "file"]);
            if flag != "--tasks-file" {
                let tasks = lab.path("good.json");
                fs::write(&tasks, "{\"tasks\": []}")?;
                command.arg("--tasks-file").arg(tasks);
            }
            run_to_end(command.arg(flag).arg(&path), Duration::from_secs(20))
        };
        let exit = run(&[b"\xef\xbb\xbf", text.as_bytes()].concat())?;
        assert_eq!(exit.status.code(), Some(0), "{flag} with a byte-order mark: {}", exit.stderr);
        let sixteen: Vec<u8> =
            format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let exit = run(&sixteen)?;
        assert_eq!(exit.status.code(), Some(USAGE), "{flag} in UTF-16");
        let said = exit.stderr;
        assert!(
            said.contains("UTF-16") && said.contains(&*path.to_string_lossy()),
            "{flag}: {said}"
        );
    }
    Ok(())
}

#[test]
fn a_tasks_file_must_be_there_and_be_one() -> Result<()> {
    let lab = lab!();
    let path = lab.path("tasks.json");
    for text in [None, Some(""), Some("{\"tasks\": ["), Some("[1]"), Some("{\"tasks\": [{}]}")] {
        if let Some(text) = text {
            fs::write(&path, text)?;
        }
        refused(&lab, USAGE, "tasks.json", |command| {
            command.args(["--source", "file", "--tasks-file"]).arg(&path);
            Ok(())
        })?;
    }
    refused(&lab, USAGE, "tasks", |command| {
        command.args(["--source", "file", "--tasks-file"]).arg(lab.netns_dir());
        Ok(())
    })
}
