//! The configuration: one validated [`Config`].
//!
//! Owns: the settings with their flags, variables, keys and defaults, and the precedence among
//! them. In: matches of the command line, and the configuration file. Out: a [`Config`]. A value is
//! checked where its type is parsed; combinations of values are checked here.

mod delivery;
mod error;
mod layers;
mod message;
mod output;
mod settings;
mod values;

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

pub use self::{
    delivery::DeliveryConfig,
    error::ConfigError,
    output::{OutputConfig, Outputs},
    settings::{
        DeliverySettings, FileSettings, HostSettings, IdentitySettings, KernelSettings,
        RecordSettings, Settings,
    },
    values::{HttpUrl, ListenAddress, UserGroup},
};
pub(crate) use self::{message::one_line, values::network};
use crate::{http::Trust, linux::access::Access, tasks::Source};

/// Validated settings of `observer run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings.
    pub settings: Settings,
    /// Outputs, with the files that their settings name.
    pub output: OutputConfig,
    /// Delivery of finished files; `None` to keep them.
    pub delivery: Option<DeliveryConfig>,
    /// The certificates of `--ca-bundle`, or the system's.
    pub trust: Trust,
}

impl Config {
    /// Completes settings, parsed into `matches`, with a configuration file, and validates them.
    pub fn new(
        mut settings: Settings,
        matches: &ArgMatches,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        if let Some(file) = file {
            layers::complete(&mut settings, matches, file)?;
        }
        Self::of(settings)
    }

    fn of(mut settings: Settings) -> Result<Self, ConfigError> {
        let identity = &mut settings.identity;
        if identity.source.contains(&Source::File) && identity.tasks_file.is_none() {
            return Err(ConfigError::NoTasksFile);
        }
        if identity.source.is_empty() {
            let has_file = identity.tasks_file.is_some();
            identity.source = Source::ALL
                .into_iter()
                .filter(|source| has_file || *source != Source::File)
                .collect();
        }
        let files = &settings.files;
        let access = Access::records(files.output_group.as_ref().map(UserGroup::id));
        let outputs = Outputs::new(&files.output_dir, access, &files.output);
        let output = OutputConfig::new(settings.records.clone(), outputs)?;
        let trust = trust(&mut settings.host.ca_bundle)?;
        let delivery = DeliveryConfig::new(&settings.delivery, trust.clone(), &output)?;
        Ok(Self { settings, output, delivery, trust })
    }

    /// Prints the configuration as a TOML file for `--config`.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(&self.settings).map_err(ConfigError::Print)
    }
}

/// CA certificates to trust in place of the system's: the file of the flag, else of the variable
/// that all AWS tools read.
fn trust(bundle: &mut Option<PathBuf>) -> Result<Trust, ConfigError> {
    let mut by = "--ca-bundle";
    if bundle.is_none() {
        *bundle = env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
        by = "AWS_CA_BUNDLE";
    }
    let trust = bundle.as_deref().map(Trust::read).transpose();
    Ok(trust.map_err(|source| ConfigError::CaBundle { by, source })?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytesize::ByteSize;
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;
    use crate::sink::Output;

    /// The configuration of these flags and the text of a file.
    fn config(flags: &[&str], text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("observer.toml");
        fs::write(&path, text).unwrap();
        let command = Settings::augment_args(Command::new("run").no_binary_name(true));
        let matches = command.mut_args(|argument| argument.env(None)).get_matches_from(flags);
        Config::new(Settings::from_arg_matches(&matches).unwrap(), &matches, Some(&path))
    }

    #[test]
    fn the_printed_configuration_is_equal_when_read() {
        let given = "window = 7\naccount-id = \"012345678901\"\nfile-size = 5000000\nno-nodata = true\n\
                     output = [\"text\", \"jsonl\"]\nvpc-cidr = [\"10.0.0.0/16\"]\nsource = [\"docker\"]\n\
                     filter = [\"drop port=53\", \"keep\"]\nnetns-dir = [\"/a,b\", \"/c\"]";
        for text in ["", given] {
            let printed = config(&[], text).unwrap().to_toml().unwrap();
            assert_eq!(config(&[], &printed).unwrap().to_toml().unwrap(), printed);
            assert!(
                text.lines().all(|line| line.starts_with("file-size") || printed.contains(line)),
                "{printed}"
            );
        }
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let text = "window = 10\nflow-memory = \"8MiB\"\noutput = [\"text\"]";
        let config = config(&["--window", "5"], text).unwrap();
        assert_eq!(config.settings.records.window, 5);
        assert_eq!(config.settings.kernel.flow_memory, Some(ByteSize::mib(8)));
        assert_eq!(config.output.outputs.formats, [Output::Text]);
        assert_eq!(config.settings.host.listen.get().port(), 9810);
    }

    #[test]
    fn a_list_of_a_flag_replaces_that_of_the_file() {
        let config =
            config(&["--netns-dir", "/a", "--netns-dir", "/b"], "netns-dir = [\"/c\"]").unwrap();
        assert_eq!(config.settings.identity.netns_dir, ["/a", "/b"].map(PathBuf::from));
    }

    #[test]
    fn invalid_keys_and_values_are_reported_with_their_line() {
        for (text, line, word) in [
            ("window = 10\nwidnow = 5", 2, "widnow"),
            ("widnow = 5", 1, "did you mean `window`?"),
            ("\n\nwindow = \"ten\"", 3, "string"),
            ("output = [\"csv\"]", 1, "csv"),
            ("flow-memory = \"lots\"", 1, "lots"),
            ("window = [1, 2]", 1, "window"),
            ("listen = { port = 1 }", 1, "listen"),
            ("help = true", 1, "unknown key `help`"),
            ("window = ", 1, ""),
        ] {
            let error = config(&[], text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
            assert!(error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn values_of_the_file_are_checked_like_flags() {
        for (text, word) in
            [("window = 601", "601"), ("max-flows = 0", "0"), ("stop-timeout = 3601", "3601")]
        {
            // Also a value that a flag overrides.
            for flags in [&[][..], &["--window", "5"]] {
                let error = config(flags, text).unwrap_err().to_string();
                assert!(error.contains(word) && error.contains("line 1"), "{error}");
            }
        }
        assert!(matches!(config(&[], "source = [\"file\"]"), Err(ConfigError::NoTasksFile)));
    }
}
