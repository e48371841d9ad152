//! The surface of the command line as files: the help of each verb, and the table of settings in
//! the documentation. `UPDATE_EXPECT=1 cargo test -p observer surface` writes them.

use clap::{Arg, Args as _, Command, CommandFactory as _};
use expect_test::expect_file;

use super::Cli;
use crate::config::Settings;

/// Columns of the help.
const WIDTH: usize = 100;

fn help(verb: &str) -> String {
    let mut all = Cli::command().term_width(WIDTH);
    all.build();
    let command = all.find_subcommand_mut(verb).unwrap();
    let text = command.clone().term_width(WIDTH).render_long_help().to_string();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_help_of_each_verb_is_that_of_its_file() {
    expect_file!["../../golden/help/run.txt"].assert_eq(&help("run"));
    expect_file!["../../golden/help/check.txt"].assert_eq(&help("check"));
    expect_file!["../../golden/help/replay.txt"].assert_eq(&help("replay"));
    expect_file!["../../golden/help/schema.txt"].assert_eq(&help("schema"));
    expect_file!["../../golden/help/tasks.txt"].assert_eq(&help("tasks"));
    expect_file!["../../golden/help/detach.txt"].assert_eq(&help("detach"));
    expect_file!["../../golden/help/config.txt"].assert_eq(&help("config"));
    let verbs: Vec<_> =
        Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    assert_eq!(verbs, ["run", "check", "replay", "schema", "tasks", "detach", "config"]);
}

/// Head of a table of settings.
const HEAD: &str = "| flag | value | default | meaning |\n|---|---|---|---|\n";

/// Cells of the table of settings.
fn row(argument: &Arg) -> String {
    let help = argument.get_help().unwrap().to_string();
    // Defaults that depend on the host are part of the help.
    let (meaning, described) = help.split_once(" [default: ").unwrap_or((&help, ""));
    let defaults: Vec<_> = argument
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_str().unwrap()))
        .collect();
    let default = if defaults.is_empty() {
        described.trim_end_matches(']').to_owned()
    } else {
        defaults.join(", ")
    };
    let name = argument.get_value_names().unwrap()[0].to_string();
    let values: Vec<_> =
        argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let value = if values.is_empty() || name == "BOOL" { name } else { values.join(", ") };
    format!("| `--{}` | {value} | {default} | {meaning} |\n", argument.get_long().unwrap())
}

#[test]
fn the_table_of_settings_is_that_of_the_documentation() {
    let command = Settings::augment_args(Command::new("run"));
    let mut text = "# Settings\n\n[README](../../README.md) · [operation](operation.md)\n\n\
                    Each setting is a flag of `observer run`, a variable (`OBSERVER_FLOW_MEMORY`) and a key in the \
                    TOML file of\n`--config` (`flow-memory`). A flag overrides a variable, and a variable overrides \
                    the file. This page is generated from\nthe program ([golden files](development.md#golden-files)).\n"
        .to_owned();
    let mut heading = None;
    for argument in command.get_arguments() {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            text = text + "\n## " + heading.unwrap() + "\n\n" + HEAD;
        }
        text += &row(argument);
    }
    expect_file!["../../docs/settings.md"].assert_eq(&text);
}
