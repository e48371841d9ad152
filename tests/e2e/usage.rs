//! Wrong usage: an exit code for the kind of error, and one line that says how to fix it.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use observer_tests::{
    daemon::{By, run_to_end},
    lab,
    lab::Lab,
    records::finished,
};

const USAGE: i32 = 2;
const HOST: i32 = 3;

/// Starts a daemon misconfigured by `change`. It must exit with `code` and print one line that
/// contains `word`.
fn refused(
    lab: &Lab,
    code: i32,
    word: &str,
    change: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<()> {
    let (mut command, _) = lab.daemon().command()?;
    change(&mut command)?;
    let exit = run_to_end(&mut command, Duration::from_secs(10))?;
    let said = &exit.stderr;
    assert_eq!(exit.status.code(), Some(code), "exit code of {command:?}, which said:\n{said}");
    assert_eq!(said.lines().count(), 1, "lines on stderr:\n{said}");
    assert!(said.starts_with("observer: "), "{said:?}");
    assert!(said.contains(word), "{said:?} does not say {word:?}");
    assert_eq!(exit.stdout, "", "standard output");
    Ok(())
}

#[test]
fn an_unknown_flag_is_refused() -> Result<()> {
    let lab = lab!();
    refused(&lab, USAGE, "--frobnicate", |command| {
        command.arg("--frobnicate");
        Ok(())
    })
}

#[test]
fn an_unknown_command_is_refused() -> Result<()> {
    let lab = lab!();
    let mut command = observer_tests::daemon::command()?;
    let exit = run_to_end(command.arg("frobnicate"), Duration::from_secs(10))?;
    assert_eq!(exit.status.code(), Some(USAGE), "{}", exit.stderr);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    drop(lab);
    Ok(())
}

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
fn a_value_out_of_range_is_refused() -> Result<()> {
    let lab = lab!();
    for (flag, value) in [
        ("--window", "0"),
        ("--window", "601"),
        ("--window", "-1"),
        ("--window", "sixty"),
        ("--file-size", "99999999999999999999999999"),
        ("--vpc-cidr", "10.0.0.0/33"),
        ("--filter", "drop port=+53"),
        ("--max-flows", "0"),
        ("--flow-memory", "0"),
        ("--flow-memory", "-1MiB"),
        ("--flow-memory", "lots"),
        ("--flow-memory", "4 parsecs"),
        ("--output", "csv"),
        ("--hook", "magic"),
        ("--attach", "glue"),
        ("--xdp-mode", "fast"),
        ("--xdp-changes", "some"),
        ("--source", "rumour"),
        ("--listen", "localhost"),
        ("--listen", "127.0.0.1:65536"),
        ("--log-level", "loud"),
        ("--stop-timeout", "0"),
        ("--stop-timeout", "3601"),
        ("--stop-timeout", "soon"),
        ("--deliver-checksum", "md5"),
    ] {
        // The setup gives three of these flags already, and a repeated flag is an error.
        let (mut command, _) = lab.daemon().command()?;
        let given: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
        let mut kept = Vec::new();
        let mut given = given.into_iter();
        while let Some(argument) = given.next() {
            if argument == flag { drop(given.next()) } else { kept.push(argument) }
        }
        command = observer_tests::daemon::command()?;
        command.args(kept).arg(format!("{flag}={value}"));
        let exit = run_to_end(&mut command, Duration::from_secs(10))?;
        let said = &exit.stderr;
        assert_eq!(exit.status.code(), Some(USAGE), "{flag}={value}:\n{said}");
        assert_eq!(said.lines().count(), 1, "{flag}={value}:\n{said}");
        assert!(said.starts_with("observer: ") && said.contains(flag), "{flag}={value}: {said:?}");
    }
    Ok(())
}

#[test]
fn too_little_or_too_much_memory_is_refused_with_what_is_possible() -> Result<()> {
    let lab = lab!();
    for (size, words) in [("4KiB", "give at least"), ("100TiB", "more than this host has")] {
        refused(&lab, USAGE, words, |command| {
            command.args(["--flow-memory", size]);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_variable_is_checked_like_its_flag() -> Result<()> {
    let lab = lab!();
    for (name, value) in
        [("OBSERVER_ATTACH", "glue"), ("OBSERVER_LOG_LEVEL", "loud"), ("OBSERVER_HOOK", "")]
    {
        refused(&lab, USAGE, value, |command| {
            command.env(name, value);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_value_from_a_variable_or_a_file_is_named_as_the_user_wrote_it() -> Result<()> {
    let lab = lab!();
    // The setup gives --listen, which overrides the variable.
    let said = |change: &dyn Fn(&mut Command)| -> Result<String> {
        let mut command = observer_tests::daemon::command()?;
        change(command.arg("config"));
        let exit = run_to_end(&mut command, Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(USAGE), "{command:?}: {}{}", exit.stdout, exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        Ok(exit.stderr)
    };
    for name in
        ["LISTEN", "WINDOW", "TASKS_FILE", "DELIVER", "HOOK", "SOURCE", "FILTER", "NO_NODATA"]
    {
        let name = format!("OBSERVER_{name}");
        let said = said(&|command| {
            command.env(&name, "");
        })?;
        assert!(said.contains(&format!("the variable {name} is empty")), "{said}");
    }
    for (name, value) in
        [("LISTEN", "nowhere"), ("WINDOW", "0"), ("SOURCE", "rumour"), ("FILE_SIZE", "lots")]
    {
        let name = format!("OBSERVER_{name}");
        let said = said(&|command| {
            command.env(&name, value);
        })?;
        assert!(said.contains(&name) && said.contains(value), "{said}");
    }
    // Checked only after all settings are merged.
    for (name, value) in
        [("FILTER", "drop ports=1"), ("DELIVER", "ftp://x"), ("LOG_FORMAT", "${bits}")]
    {
        let name = format!("OBSERVER_{name}");
        let said = said(&|command| {
            command.env(&name, value);
        })?;
        assert!(said.contains(&format!("given by the variable {name}")), "{said}");
    }
    let file = lab.path("observer.toml");
    fs::write(&file, "window = 601\n")?;
    let said_of_file = said(&|command| {
        command.arg("--config").arg(&file);
    })?;
    assert!(said_of_file.contains(&format!("given in {}", file.display())), "{said_of_file}");
    // A flag overrides a variable, so the error must name the flag.
    let said_of_flag = said(&|command| {
        command.args(["--window", "0"]).env("OBSERVER_WINDOW", "9999");
    })?;
    assert!(
        said_of_flag.contains("--window") && !said_of_flag.contains("OBSERVER_"),
        "{said_of_flag}"
    );
    Ok(())
}

#[test]
fn an_address_to_listen_on_may_be_localhost_and_else_says_what_to_give() -> Result<()> {
    let lab = lab!();
    let config = |listen: &str| {
        let mut command = observer_tests::daemon::command()?;
        run_to_end(command.args(["config", "--listen", listen]), Duration::from_secs(10))
    };
    for (given, printed) in [
        ("localhost:9810", "127.0.0.1:9810"),
        ("[::1]:9810", "[::1]:9810"),
        ("0.0.0.0:1", "0.0.0.0:1"),
    ] {
        let exit = config(given)?;
        assert!(
            exit.stdout.contains(&format!("listen = \"{printed}\"")),
            "{given}: {}",
            exit.stdout
        );
    }
    for given in [":9810", "9810", "localhost", "example.com:9810", "127.0.0.1:65536"] {
        let exit = config(given)?;
        assert_eq!(exit.status.code(), Some(USAGE), "{given}");
        assert!(
            exit.stderr.contains("such as 127.0.0.1:9810, localhost:9810"),
            "{given}: {}",
            exit.stderr
        );
    }
    drop(lab);
    Ok(())
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

#[test]
fn an_output_directory_must_be_writable() -> Result<()> {
    let lab = lab!();
    let file = lab.path("daemon-out");
    fs::write(&file, "in the way")?;
    refused(&lab, USAGE, "daemon-out", |_| Ok(()))?;
    assert_eq!(fs::read_to_string(&file)?, "in the way", "the file in the way");
    Ok(())
}

#[test]
fn a_state_directory_must_be_writable() -> Result<()> {
    let lab = lab!();
    fs::write(lab.path("daemon-state"), "in the way")?;
    refused(&lab, USAGE, "daemon-state", |_| Ok(()))
}

#[test]
fn a_port_in_use_is_refused() -> Result<()> {
    let lab = lab!();
    let mut taken = None;
    refused(&lab, USAGE, "in use", |command| {
        let listen = command
            .get_args()
            .skip_while(|arg| *arg != "--listen")
            .nth(1)
            .map(std::ffi::OsStr::to_owned);
        taken = Some(TcpListener::bind(listen.unwrap_or_default().to_string_lossy().as_ref())?);
        Ok(())
    })
}

#[test]
fn a_second_daemon_with_the_same_state_is_refused() -> Result<()> {
    let lab = lab!();
    let first = lab.daemon().start()?;
    refused(&lab, USAGE, "daemon-state", |_| Ok(()))?;
    assert_eq!(first.get("/readyz")?.status, 200, "the first one");
    first.stop()?;
    Ok(())
}

#[test]
fn without_privilege_the_host_cannot_run_it() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let lab = lab!();
    // Only the missing capabilities keep it from starting.
    for name in ["daemon-out", "daemon-state"] {
        fs::create_dir(lab.path(name))?;
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o777))?;
    }
    refused(&lab, HOST, "CAP_", |command| {
        command.uid(NOBODY).gid(NOBODY);
        Ok(())
    })
}

#[test]
fn help_and_version_are_no_errors() -> Result<()> {
    let lab = lab!();
    for flag in ["--help", "--version"] {
        let mut command = observer_tests::daemon::command()?;
        let exit = run_to_end(command.arg(flag), Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(0), "{flag}: {}", exit.stderr);
        assert!(!exit.stdout.is_empty() && exit.stderr.is_empty(), "{flag}");
    }
    drop(lab);
    Ok(())
}

#[test]
fn flags_variables_and_file_say_the_same() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    for by in [By::Flags, By::Variables, By::File] {
        let name = match by {
            By::Flags => "flags",
            By::Variables => "variables",
            By::File => "file",
        };
        let setup = lab.daemon().name(name).by(by).window(600).also_output("text");
        let daemon = setup
            .set("attach", "clsact")
            .set("flow-memory", "8MiB")
            .set("log-level", "warn")
            .start()?;
        let out = daemon.out().to_path_buf();
        daemon.wait_attached(&task.inside)?;
        let stopped = daemon.stop()?;
        assert!(!stopped.said.contains("INFO"), "{by:?}: log-level warn\n{}", stopped.said);
        for ending in ["jsonl", "log.gz"] {
            assert_eq!(finished(&out, ending)?.len(), 1, "{by:?}: files that end with {ending}");
        }
    }
    Ok(())
}

#[test]
fn a_flag_beats_a_variable_and_a_variable_beats_the_file() -> Result<()> {
    let lab = lab!();
    let (_, listen) = lab.daemon().by(By::File).window(600).command()?;
    let config = lab.path("daemon-config.toml");
    let mut command = observer_tests::daemon::command()?;
    command
        .args(["config", "--config"])
        .arg(&config)
        .env("OBSERVER_WINDOW", "30")
        .env("OBSERVER_HOOK", "tc");
    let printed = |command: &mut Command| -> Result<String> {
        let exit = run_to_end(command, Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        Ok(exit.stdout)
    };
    let by_variable = printed(&mut command)?;
    assert!(by_variable.contains("window = 30\n"), "{by_variable}");
    assert!(
        by_variable.contains(&format!("listen = \"{listen}\"\n")),
        "the file's address in {by_variable}"
    );
    let by_flag = printed(command.args(["--window", "20"]))?;
    assert!(by_flag.contains("window = 20\n"), "{by_flag}");
    Ok(())
}
