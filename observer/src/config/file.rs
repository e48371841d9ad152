//! Reading of the configuration file.

use std::{
    fs,
    io::{self, Read as _},
    mem,
    path::Path,
};

use clap::{Args as _, Command};
use serde::Deserialize as _;
use toml::de::{DeTable, Deserializer, Error};

use super::error::ConfigError;
use crate::{
    cli::{RecordSettings, Settings},
    text_file::utf8,
};

/// Maximum size of the file in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Reads the file of `--config`.
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let mut text = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("too long for a configuration")));
    }
    let text = utf8(&text).map_err(|source| ConfigError::Encoding { path: path.to_path_buf(), source })?;
    parse(text).map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| {
            let number = text.get(..span.start).unwrap_or(text).matches('\n').count();
            // The message names the key only if the key itself is invalid.
            let key = text.lines().nth(number).and_then(|line| line.split_once('='));
            let key = key.map_or_else(String::new, |(key, _)| format!(" ({})", key.trim()));
            format!(", line {}{key}", number + 1)
        });
        // Only the message, without the quoted line and its marker.
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        ConfigError::Parse { path: path.to_path_buf(), place, message }
    })
}

/// Deserialises the keys of each group of settings into its own struct.
fn parse(text: &str) -> Result<Settings, Error> {
    let mut table = DeTable::parse(text)?;
    let records = RecordSettings::augment_args(Command::new(""));
    let is_of_records = |key: &str| records.get_arguments().any(|argument| argument.get_long() == Some(key));
    let (mine, others) =
        mem::take(table.get_mut()).into_iter().partition(|(key, _)| is_of_records(key.get_ref()));
    let mut records = table.clone();
    *records.get_mut() = mine;
    *table.get_mut() = others;
    let mut settings = Settings::deserialize(Deserializer::from(table))?;
    settings.records = RecordSettings::deserialize(Deserializer::from(records))?;
    Ok(settings)
}
