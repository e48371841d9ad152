//! Flags, variables and the configuration file: the same checks, and their order.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use observer_tests::{
    daemon::{By, run_to_end},
    lab,
    records::finished,
};

use super::{USAGE, refused};

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
