//! Commands, flags and their values.

use std::time::Duration;

use anyhow::Result;
use observer_tests::{daemon::run_to_end, lab};

use super::{USAGE, refused};

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
fn an_error_shows_no_password_and_is_short() -> Result<()> {
    let lab = lab!();
    let long = format!("http://{}", "x".repeat(100_000));
    for (flag, value) in [
        ("--imds-url", "http://me:secret@169.254.169.254"),
        ("--deliver-endpoint", "https://me:secret@127.0.0.1:9000"),
        ("--deliver", "ftp://me:secret@host/path"),
        ("--deliver-endpoint", &format!("{long} x")),
        ("--imds-url", &format!("{long}:port")),
    ] {
        let mut command = observer_tests::daemon::command()?;
        command.args(["config", "--deliver", "s3://bucket/prefix", flag, value]);
        if flag == "--deliver" {
            command = observer_tests::daemon::command()?;
            command.args(["config", flag, value]);
        }
        let exit = run_to_end(&mut command, Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(2), "{flag}: {}", exit.stderr);
        assert!(exit.stderr.contains(flag), "{}", exit.stderr);
        assert!(!exit.stderr.contains("secret"), "{}", exit.stderr);
        assert!(exit.stderr.len() < 1100, "{flag}: {} bytes", exit.stderr.len());
    }
    drop(lab);
    Ok(())
}
