//! The layers of the configuration. Flags and variables are parsed by clap, with the defaults. The
//! file fills the settings that neither of them gives, through the same parsers.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use clap::{
    ArgMatches, Args as _, Command, FromArgMatches as _, error::ErrorKind, parser::ValueSource,
};
use toml::{
    Table, Value,
    de::{DeTable, Error},
};

use super::{error::ConfigError, message::one_line, settings::Settings};
use crate::text_file::utf8;

/// Maximum size of the file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Completes `settings`, parsed into `matches`, with the file of `--config`.
pub(super) fn complete(
    settings: &mut Settings,
    matches: &ArgMatches,
    path: &Path,
) -> Result<(), ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("too long for a configuration")));
    }
    let text =
        utf8(&text).map_err(|source| ConfigError::Encoding { path: path.to_path_buf(), source })?;
    fill(settings, matches, text).map_err(|(start, message)| {
        let line = text.get(..start).unwrap_or(text).matches('\n').count() + 1;
        ConfigError::File { path: path.to_path_buf(), line, message }
    })
}

/// A message, and the offset in the file that it is about.
type Misplaced = (usize, String);

/// Fills the settings that are not given in `matches` from the text of a file.
fn fill(settings: &mut Settings, matches: &ArgMatches, text: &str) -> Result<(), Misplaced> {
    let invalid = |error: Error| {
        let start = error.span().map_or(0, |span| span.start);
        (start, error.message().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let places = DeTable::parse(text).map_err(invalid)?;
    let values: Table = text.parse().map_err(invalid)?;
    let command = command();
    let mut layer = Vec::new();
    for key in places.get_ref().keys() {
        let place = |message| (key.span().start, message);
        let arguments =
            arguments(&command, key.get_ref(), &values[&**key.get_ref()]).map_err(place)?;
        // Also a value that a flag overrides must be valid.
        let parsed = command.clone().try_get_matches_from(&arguments);
        parsed.map_err(|error| place(message(&error, key.get_ref())))?;
        if !is_given(matches, &command, key.get_ref()) {
            layer.extend(arguments);
        }
    }
    // Each of them was parsed above.
    let parsed = command.try_get_matches_from(layer);
    parsed
        .and_then(|parsed| settings.update_from_arg_matches(&parsed))
        .map_err(|error| (0, error.to_string()))
}

/// A command whose flags are the settings. It has neither variables nor defaults: a flag that is
/// missing is not in its matches.
fn command() -> Command {
    Settings::augment_args(Command::new("file"))
        .no_binary_name(true)
        .disable_help_flag(true)
        .mut_args(|argument| argument.env(None).default_value(None).value_delimiter(None))
}

/// The flags that mean the same as a key of the file.
fn arguments(command: &Command, key: &str, value: &Value) -> Result<Vec<String>, String> {
    if !command.get_arguments().any(|argument| argument.get_long() == Some(key)) {
        let similar = command.clone().try_get_matches_from([format!("--{key}")]).err();
        let similar = similar.and_then(|error| {
            let suggested = error.get(clap::error::ContextKind::SuggestedArg)?.to_string();
            Some(format!(", did you mean `{}`?", suggested.trim_start_matches("--")))
        });
        return Err(format!("unknown key `{key}`{}", similar.unwrap_or_default()));
    }
    let argument = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                return Err(format!(
                    "`{key}`: give a string, a number, a boolean, or a list of them"
                ));
            }
        };
        Ok(format!("--{key}={text}"))
    };
    match value {
        Value::Array(values) => values.iter().map(argument).collect(),
        value => Ok(vec![argument(value)?]),
    }
}

/// Text of an error, with the key in place of its flag.
fn message(error: &clap::Error, key: &str) -> String {
    let text = one_line(error);
    match error.get(clap::error::ContextKind::InvalidArg) {
        Some(flag) if error.kind() != ErrorKind::UnknownArgument => {
            text.replace(&format!("'{flag}'"), &format!("`{key}`"))
        }
        _ => text,
    }
}

/// True if a flag or a variable gives this setting.
fn is_given(matches: &ArgMatches, command: &Command, key: &str) -> bool {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(key));
    let source = argument.and_then(|argument| matches.value_source(argument.get_id().as_str()));
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}
