//! Settings of the outputs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;

use super::{error::ConfigError, settings::RecordSettings};
use crate::{
    linux::access::Access,
    record::{Context, Filter, ServiceRanges},
    sink::{Output, SinkOptions, is_account, is_region},
};

/// Formats of the outputs, each at most once, and the directory of their files.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Directory of the record files.
    pub directory: PathBuf,
    /// Access to the files and folders.
    pub access: Access,
    /// The formats.
    pub formats: Vec<Output>,
}

impl Outputs {
    /// Formats for a directory. A repeated format is written once.
    pub fn new(directory: &Path, access: Access, given: &[Output]) -> Self {
        let mut formats = Vec::new();
        for output in given {
            if !formats.contains(output) {
                formats.push(*output);
            }
        }
        Self { directory: directory.to_path_buf(), access, formats }
    }

    /// Outputs of a replay. Records are printed by default, and files need a directory that is
    /// given, so that they do not mix with the daemon's.
    pub fn of_replay(directory: Option<&Path>, given: &[Output]) -> Result<Self, ConfigError> {
        let default = [if directory.is_some() { Output::Jsonl } else { Output::Stdout }];
        let outputs = Self::new(
            directory.unwrap_or(Path::new("")),
            Access::records(None),
            if given.is_empty() { &default } else { given },
        );
        if directory.is_none() && outputs.has_files() {
            return Err(ConfigError::NoOutputDir);
        }
        Ok(outputs)
    }

    /// True if an output writes files.
    pub fn has_files(&self) -> bool {
        self.formats.iter().any(|output| output.ending().is_some())
    }
}

/// Validated settings of the outputs.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    /// Formats and directory.
    pub outputs: Outputs,
    /// The settings.
    pub records: RecordSettings,
    /// Format, filter and default values of all records.
    pub context: Context,
}

impl OutputConfig {
    /// Validates the settings, and reads the files that they name.
    pub fn new(records: RecordSettings, outputs: Outputs) -> Result<Self, ConfigError> {
        let account_id =
            named("account-id", records.account_id.as_deref(), "twelve digits", is_account)?;
        let region =
            named("region", records.region.as_deref(), "a name such as eu-west-1", is_region)?;
        named(
            "flow-log-id",
            records.flow_log_id.as_deref(),
            "fl- and 8 to 17 hexadecimal digits",
            is_flow_log,
        )?;
        if records.file_size.as_u64() == 0 {
            return Err(ConfigError::FileSize);
        }
        let rules = records.filter.iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
        let context = Context {
            format: records.log_format.parse()?,
            account_id: account_id.map(Into::into),
            region: region.map(Into::into),
            vpc: records.vpc_cidr.iter().map(IpNet::trunc).collect(),
            services: records.ip_ranges.as_ref().map(services).transpose()?,
            filter: Filter::new(rules),
            aws_parity: records.aws_parity,
            no_nodata: records.no_nodata,
        };
        Ok(Self { outputs, records, context })
    }

    /// Options for starting the sinks. `flow_log_id` provides the ID if the setting is missing.
    pub fn sink_options(&self, flow_log_id: impl FnOnce() -> String) -> SinkOptions {
        SinkOptions {
            outputs: self.outputs.formats.clone(),
            directory: self.outputs.directory.clone(),
            access: self.outputs.access,
            partition: self.records.partition,
            flow_log_id: self.records.flow_log_id.clone().unwrap_or_else(flow_log_id),
            file_size: self.records.file_size.as_u64(),
            context: Arc::new(self.context.clone()),
            state: None,
            delivery: None,
        }
    }
}

/// Checks a value that becomes part of file names.
fn named<'a>(
    flag: &'static str,
    value: Option<&'a str>,
    wanted: &'static str,
    is_one: fn(&str) -> bool,
) -> Result<Option<&'a str>, ConfigError> {
    match value {
        Some(value) if !is_one(value) => {
            Err(ConfigError::Name { flag, value: value.to_owned(), wanted })
        }
        value => Ok(value),
    }
}

fn is_flow_log(text: &str) -> bool {
    text.strip_prefix("fl-").is_some_and(|id| {
        (8..=17).contains(&id.len())
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn services(path: &PathBuf) -> Result<Arc<ServiceRanges>, ConfigError> {
    let text =
        fs::read(path).map_err(|source| ConfigError::IpRanges { path: path.clone(), source })?;
    let ranges = ServiceRanges::parse(&text)
        .map_err(|source| ConfigError::Services { path: path.clone(), source })?;
    Ok(Arc::new(ranges))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    fn refused(flags: &[&str], words: &str) {
        let command = RecordSettings::augment_args(Command::new("run").no_binary_name(true));
        let matches = command.mut_args(|argument| argument.env(None)).get_matches_from(flags);
        let records = RecordSettings::from_arg_matches(&matches).unwrap();
        let outputs = Outputs::new(Path::new("/records"), Access::records(None), &[Output::Jsonl]);
        let error = OutputConfig::new(records, outputs).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }

    #[test]
    fn values_invalid_in_file_names_are_rejected() {
        refused(&["--account-id=12"], "--account-id \"12\"");
        refused(&["--region=../etc"], "--region \"../etc\"");
        refused(&["--flow-log-id=fl-1"], "--flow-log-id \"fl-1\"");
        refused(&["--file-size=0"], "--file-size 0");
        refused(&["--log-format=${bits}"], "--log-format: ");
        refused(&["--filter=drop ports=53"], "--filter: \"ports\"");
        refused(&["--ip-ranges=/nowhere/ip-ranges.json"], "--ip-ranges /nowhere/ip-ranges.json");
    }

    #[test]
    fn a_repeated_output_is_written_once() {
        let outputs = Outputs::new(
            Path::new("/records"),
            Access::records(None),
            &[Output::Text, Output::Jsonl, Output::Text],
        );
        assert_eq!(outputs.formats, [Output::Text, Output::Jsonl]);
    }

    #[test]
    fn a_replay_prints_unless_it_has_a_directory() {
        let directory = Some(Path::new("/records"));
        assert_eq!(Outputs::of_replay(None, &[]).unwrap().formats, [Output::Stdout]);
        assert_eq!(Outputs::of_replay(directory, &[]).unwrap().formats, [Output::Jsonl]);
        assert!(matches!(Outputs::of_replay(None, &[Output::Text]), Err(ConfigError::NoOutputDir)));
    }
}
