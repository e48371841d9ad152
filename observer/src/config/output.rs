//! Settings of the outputs.

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc};

use bytesize::ByteSize;
use ipnet::IpNet;

use super::{
    error::ConfigError,
    text::{list, quoted},
};
use crate::{
    cli::{self, PartitionName, RecordSettings},
    record::{Context, Filter, Format, ServiceRanges},
    sink::{Output, Partition, SinkOptions, is_account, is_region},
};

/// Validated settings of the outputs.
#[derive(Clone, Debug)]
pub struct OutputConfig {
    /// Directory of the record files.
    pub directory: PathBuf,
    /// Outputs, each at most once.
    pub outputs: Vec<Output>,
    /// Layout of the folders.
    pub partition: Partition,
    /// Flow log ID, `fl-…`; `None` to derive it from the host.
    pub flow_log_id: Option<String>,
    /// Size at which a file is finished before its slot ends.
    pub file_size: ByteSize,
    /// Copy of AWS's `ip-ranges.json`.
    pub ip_ranges: Option<PathBuf>,
    /// Format, filter and default values of all records.
    pub context: Context,
}

/// Default file size: the maximum that AWS documents for its files.
const FILE_SIZE: ByteSize = ByteSize::mb(75);

impl OutputConfig {
    /// Completes the settings with the defaults, and reads the files that they name.
    pub fn new(settings: RecordSettings) -> Result<Self, ConfigError> {
        let format = match &settings.log_format {
            Some(text) => text.parse()?,
            None => Format::v2(),
        };
        let account_id = named("account-id", settings.account_id, "twelve digits", is_account)?;
        let region = named("region", settings.region, "a name such as eu-west-1", is_region)?;
        let flow_log_id =
            named("flow-log-id", settings.flow_log_id, "fl- and 8 to 17 hexadecimal digits", is_flow_log)?;
        let file_size = settings.file_size.unwrap_or(FILE_SIZE);
        if file_size.as_u64() == 0 {
            return Err(ConfigError::FileSize);
        }
        let services = settings.ip_ranges.as_ref().map(services).transpose()?;
        let rules = settings.filter.iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
        let mut outputs = Vec::new();
        for output in settings.output.into_iter().map(Output::from) {
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        if outputs.is_empty() {
            outputs.push(Output::Jsonl);
        }
        Ok(Self {
            directory: settings.output_dir.unwrap_or_else(|| "/var/log/observer".into()),
            outputs,
            partition: settings.partition.map_or(Partition::Daily, Partition::from),
            flow_log_id,
            file_size,
            ip_ranges: settings.ip_ranges,
            context: Context {
                format,
                account_id: account_id.map(Into::into),
                region: region.map(Into::into),
                vpc: settings.vpc_cidr.iter().map(IpNet::trunc).collect(),
                services,
                filter: Filter::new(rules),
                aws_parity: settings.aws_parity.unwrap_or(false),
                no_nodata: settings.no_nodata.unwrap_or(false),
            },
        })
    }

    /// True if an output writes files.
    pub fn has_files(&self) -> bool {
        self.outputs.iter().any(|output| output.ending().is_some())
    }

    /// Options for starting the sinks. `flow_log_id` provides the ID if the setting is missing.
    pub fn sink_options(&self, flow_log_id: impl FnOnce() -> String) -> SinkOptions {
        SinkOptions {
            outputs: self.outputs.clone(),
            directory: self.directory.clone(),
            partition: self.partition,
            flow_log_id: self.flow_log_id.clone().unwrap_or_else(flow_log_id),
            file_size: self.file_size.as_u64(),
            context: Arc::new(self.context.clone()),
            delivery: None,
        }
    }

    /// Prints the settings as lines of a configuration file.
    pub(super) fn to_toml(&self) -> String {
        let context = &self.context;
        let text = |text: &str| toml::Value::from(text).to_string();
        let mut lines = String::new();
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{key} = {value}");
            }
        };
        line("output-dir", Some(quoted(&self.directory)));
        line("output", Some(list(self.outputs.iter().map(|output| text(output.as_str())))));
        line("log-format", Some(text(&context.format.to_string())));
        line("partition", Some(text(partition_name(self.partition))));
        line("account-id", context.account_id.as_deref().map(text));
        line("region", context.region.as_deref().map(text));
        line("flow-log-id", self.flow_log_id.as_deref().map(text));
        line("file-size", Some(format!("\"{}B\"", self.file_size.as_u64())));
        line("no-nodata", Some(context.no_nodata.to_string()));
        line("aws-parity", Some(context.aws_parity.to_string()));
        let rules = context.filter.rules();
        line(
            "filter",
            Some(list(rules.iter().map(|rule| text(&rule.to_string())))).filter(|_| !rules.is_empty()),
        );
        line("ip-ranges", self.ip_ranges.as_deref().map(quoted));
        let vpc = list(context.vpc.iter().map(|block| text(&block.to_string())));
        line("vpc-cidr", Some(vpc).filter(|_| !context.vpc.is_empty()));
        lines
    }
}

/// Checks a value that becomes part of file names.
fn named(
    flag: &'static str,
    value: Option<String>,
    wanted: &'static str,
    is_one: fn(&str) -> bool,
) -> Result<Option<String>, ConfigError> {
    match value {
        Some(value) if !is_one(&value) => Err(ConfigError::Name { flag, value, wanted }),
        value => Ok(value),
    }
}

fn is_flow_log(text: &str) -> bool {
    text.strip_prefix("fl-").is_some_and(|id| {
        (8..=17).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn services(path: &PathBuf) -> Result<Arc<ServiceRanges>, ConfigError> {
    let text = fs::read(path).map_err(|source| ConfigError::IpRanges { path: path.clone(), source })?;
    let ranges =
        ServiceRanges::parse(&text).map_err(|source| ConfigError::Services { path: path.clone(), source })?;
    Ok(Arc::new(ranges))
}

impl From<cli::Output> for Output {
    fn from(output: cli::Output) -> Self {
        match output {
            cli::Output::Jsonl => Self::Jsonl,
            cli::Output::Text => Self::Text,
            cli::Output::Parquet => Self::Parquet,
            cli::Output::Stdout => Self::Stdout,
        }
    }
}

impl From<PartitionName> for Partition {
    fn from(name: PartitionName) -> Self {
        match name {
            PartitionName::None => Self::Daily,
            PartitionName::Hourly => Self::Hourly,
            PartitionName::Hive => Self::Hive,
            PartitionName::HiveHourly => Self::HiveHourly,
        }
    }
}

const fn partition_name(partition: Partition) -> &'static str {
    match partition {
        Partition::Daily => "none",
        Partition::Hourly => "hourly",
        Partition::Hive => "hive",
        Partition::HiveHourly => "hive-hourly",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: RecordSettings, words: &str) {
        let error = OutputConfig::new(settings).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }

    #[test]
    fn values_invalid_in_file_names_are_rejected() {
        let some = |text: &str| Some(text.to_owned());
        refused(RecordSettings { account_id: some("12"), ..Default::default() }, "--account-id \"12\"");
        refused(RecordSettings { region: some("../etc"), ..Default::default() }, "--region \"../etc\"");
        refused(RecordSettings { flow_log_id: some("fl-1"), ..Default::default() }, "--flow-log-id \"fl-1\"");
        refused(RecordSettings { file_size: Some(ByteSize::b(0)), ..Default::default() }, "--file-size 0");
        refused(RecordSettings { log_format: some("${bits}"), ..Default::default() }, "--log-format: ");
        refused(
            RecordSettings { filter: vec!["drop ports=53".into()], ..Default::default() },
            "--filter: \"ports\"",
        );
        refused(
            RecordSettings { ip_ranges: Some("/nowhere/ip-ranges.json".into()), ..Default::default() },
            "--ip-ranges /nowhere/ip-ranges.json",
        );
    }

    #[test]
    fn a_repeated_output_is_written_once() {
        let output = vec![cli::Output::Text, cli::Output::Jsonl, cli::Output::Text];
        let config = OutputConfig::new(RecordSettings { output, ..Default::default() }).unwrap();
        assert_eq!(config.outputs, [Output::Text, Output::Jsonl]);
    }
}
