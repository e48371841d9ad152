//! The layers of the configuration. Flags and variables are parsed by clap, with the defaults. The
//! file fills the settings that neither of them gives, through the same parsers.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use clap::{
    ArgMatches, Args as _, Command, FromArgMatches as _, error::ContextKind, parser::ValueSource,
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
    fill(settings, matches, text).map_err(|(start, invalid)| {
        let line = text.get(..start).unwrap_or(text).matches('\n').count() + 1;
        ConfigError::File { path: path.to_path_buf(), line, message: invalid.to_string() }
    })
}

/// An invalid key or value of the file.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("unknown key `{key}`{}", similar.as_ref().map_or_else(String::new, |it| format!(", did you mean `{it}`?")))]
    Key { key: String, similar: Option<String> },
    #[error("`{0}`: give a string, a number, a boolean, or a list of them")]
    Kind(String),
    #[error("{0}")]
    Value(String),
}

/// An error, and its offset in the file.
type Misplaced = (usize, Invalid);

/// Fills the settings that are not given in `matches` from the text of a file.
fn fill(settings: &mut Settings, matches: &ArgMatches, text: &str) -> Result<(), Misplaced> {
    let malformed = |error: Error| {
        let start = error.span().map_or(0, |span| span.start);
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        (start, Invalid::Value(message))
    };
    let places = DeTable::parse(text).map_err(malformed)?;
    let values: Table = text.parse().map_err(malformed)?;
    let command = command();
    let mut layer = Vec::new();
    for key in places.get_ref().keys() {
        let place = |invalid| (key.span().start, invalid);
        let arguments =
            arguments(&command, key.get_ref(), &values[&**key.get_ref()]).map_err(place)?;
        // Also a value that a flag overrides must be valid.
        let parsed = command.clone().try_get_matches_from(&arguments);
        parsed.map_err(|error| place(invalid_value(&error, key.get_ref())))?;
        if !is_given(matches, &command, key.get_ref()) {
            layer.extend(arguments);
        }
    }
    // Each of them was parsed above.
    let parsed = command.try_get_matches_from(layer);
    parsed
        .and_then(|parsed| settings.update_from_arg_matches(&parsed))
        .map_err(|error| (0, Invalid::Value(one_line(&error))))
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
fn arguments(command: &Command, key: &str, value: &Value) -> Result<Vec<String>, Invalid> {
    if !command.get_arguments().any(|argument| argument.get_long() == Some(key)) {
        let error = command.clone().try_get_matches_from([format!("--{key}")]).err();
        let similar = error.and_then(|error| {
            let flag = error.get(ContextKind::SuggestedArg)?.to_string();
            Some(flag.trim_start_matches("--").to_owned())
        });
        return Err(Invalid::Key { key: key.to_owned(), similar });
    }
    let argument = |value: &Value| match value {
        Value::String(text) => Ok(format!("--{key}={text}")),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(format!("--{key}={value}")),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err(Invalid::Kind(key.to_owned()))
        }
    };
    match value {
        Value::Array(values) => values.iter().map(argument).collect(),
        value => Ok(vec![argument(value)?]),
    }
}

/// The error of a value, with the key in place of its flag.
fn invalid_value(error: &clap::Error, key: &str) -> Invalid {
    let text = one_line(error);
    Invalid::Value(match error.get(ContextKind::InvalidArg) {
        Some(flag) => text.replace(&format!("'{flag}'"), &format!("`{key}`")),
        None => text,
    })
}

/// True if a flag or a variable gives this setting.
fn is_given(matches: &ArgMatches, command: &Command, key: &str) -> bool {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(key));
    let source = argument.and_then(|argument| matches.value_source(argument.get_id().as_str()));
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}
