//! The configuration: one validated [`Config`].
//!
//! Owns: defaults, and the precedence of flags, variables and the file. In: parsed flags and the
//! configuration file. Out: a [`Config`]. A value is checked where its type is parsed; combinations
//! of values are checked here.

mod delivery;
mod error;
mod file;
mod merge;
mod output;
mod print;
mod text;

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;

pub use self::{delivery::DeliveryConfig, error::ConfigError, output::OutputConfig};
use self::{delivery::DeliverySettings, merge::merge};
use crate::{
    cli::{
        self, AttachName, DropsName, HookName, HttpUrl, ListenAddress, LogLevel, RecordSettings, RunArgs,
        Settings, SourceName, XdpChanges, XdpModeName,
    },
    http::Trust,
    tasks::{Endpoint, PROC},
};

/// Validated settings of `observer run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Outputs and their settings.
    pub output: OutputConfig,
    /// Delivery of finished files; `None` to keep them.
    pub delivery: Option<DeliveryConfig>,
    /// File of CA certificates.
    pub ca_bundle: Option<PathBuf>,
    /// The certificates of that file, or the system's.
    pub trust: Trust,
    /// Length of a window in seconds.
    pub window: u32,
    /// Maximum duration of a stop.
    pub stop_timeout: Duration,
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Hook that counts packets.
    pub hook: HookName,
    /// XDP mode.
    pub xdp_mode: XdpModeName,
    /// Permission for XDP to change settings of an interface.
    pub xdp_changes: XdpChanges,
    /// Attachment of TC programs.
    pub attach: AttachName,
    /// Maximum number of flows in a window; `None` to derive it from the memory limit.
    pub max_flows: Option<u32>,
    /// Observation of dropped packets.
    pub drops: DropsName,
    /// Kernel memory for flows; `None` to derive it from the memory limit.
    pub flow_memory: Option<ByteSize>,
    /// Observe the namespaces of containers and tasks.
    pub netns: bool,
    /// Observe the host's own interfaces.
    pub host: bool,
    /// Folders of namespace files.
    pub netns_dirs: Vec<PathBuf>,
    /// Socket of the Docker Engine. For this and the following sources, `None` disables the source.
    pub docker_socket: Option<PathBuf>,
    /// Folder of the ECS agent's state.
    pub agent_data: Option<PathBuf>,
    /// The ECS agent's introspection endpoint.
    pub introspection_url: Option<String>,
    /// The task metadata endpoint.
    pub tmds_url: Option<String>,
    /// The instance metadata service.
    pub imds_url: Option<String>,
    /// The Amazon ECS API.
    pub api: Option<Endpoint>,
    /// Saved output of `aws ecs describe-tasks`.
    pub tasks_file: Option<PathBuf>,
    /// Folder of the lock and private files.
    pub state_dir: PathBuf,
    /// Folder for pinned maps, on a BPF file system.
    pub bpffs: PathBuf,
    /// Log level.
    pub log_level: LogLevel,
}

/// Default length of a window, in seconds.
const WINDOW: u32 = 60;
/// Default address of the HTTP server.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9810));

impl Config {
    /// Completes flags and variables with the configuration file and the defaults.
    pub fn new(args: RunArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => file::read(path)?,
            None => Settings::default(),
        };
        Self::from_settings(merge(args.settings, file))
    }

    /// Configuration of a replay. Records are printed by default, and files need an output
    /// directory.
    pub fn for_replay(mut records: RecordSettings, tasks_file: Option<PathBuf>) -> Result<Self, ConfigError> {
        if records.output_dir.is_none() {
            if records.output.is_empty() {
                records.output.push(cli::Output::Stdout);
            }
            if records.output.iter().any(|output| *output != cli::Output::Stdout) {
                return Err(ConfigError::NoOutputDir);
            }
        }
        Self::from_settings(Settings { records, tasks_file, ..Settings::default() })
    }

    fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        check(&settings)?;
        let window = settings.records.window.unwrap_or(WINDOW);
        let asked = |name| settings.source.is_empty() || settings.source.contains(&name);
        let of = |name, path: Option<PathBuf>, default: &str| {
            asked(name).then(|| path.unwrap_or_else(|| default.into()))
        };
        let url = |name, url: Option<HttpUrl>, default: &str| {
            asked(name).then(|| url.map_or_else(|| default.into(), |url| url.as_str().to_owned()))
        };
        let netns_dirs = if settings.netns_dir.is_empty() {
            ["/run/netns", "/run/docker/netns", PROC].map(PathBuf::from).to_vec()
        } else {
            settings.netns_dir.clone()
        };
        let output = OutputConfig::new(settings.records)?;
        let (ca_bundle, trust) = ca_bundle(settings.ca_bundle)?;
        let delivery = DeliverySettings {
            url: settings.deliver,
            endpoint: settings.deliver_endpoint,
            kms_key: settings.deliver_kms_key,
            checksum: settings.deliver_checksum,
            spool_size: settings.spool_size,
        };
        let delivery = DeliveryConfig::new(delivery, trust.clone(), &output)?;
        Ok(Self {
            output,
            delivery,
            ca_bundle,
            trust,
            window,
            stop_timeout: Duration::from_secs(settings.stop_timeout.unwrap_or(15).into()),
            listen: settings.listen.map_or(LISTEN, ListenAddress::get),
            hook: settings.hook.unwrap_or(HookName::Tc),
            xdp_mode: settings.xdp_mode.unwrap_or(XdpModeName::Auto),
            xdp_changes: settings.xdp_changes.unwrap_or(XdpChanges::Refuse),
            attach: settings.attach.unwrap_or(AttachName::Auto),
            max_flows: settings.max_flows,
            drops: settings.drops.unwrap_or(DropsName::Auto),
            flow_memory: settings.flow_memory,
            netns: asked(SourceName::Netns),
            host: asked(SourceName::Host),
            netns_dirs,
            docker_socket: of(SourceName::Docker, settings.docker_socket, "/var/run/docker.sock"),
            agent_data: of(SourceName::Agent, settings.agent_data, "/var/lib/ecs/data"),
            introspection_url: url(
                SourceName::Introspection,
                settings.introspection_url,
                "http://127.0.0.1:51678",
            ),
            tmds_url: url(SourceName::Tmds, settings.tmds_url, "http://127.0.0.1:51679"),
            imds_url: url(SourceName::Imds, settings.imds_url, "http://169.254.169.254"),
            api: asked(SourceName::Api)
                .then(|| settings.api_url.map_or(Endpoint::Aws, |url| Endpoint::At(url.as_str().to_owned()))),
            tasks_file: settings.tasks_file.filter(|_| asked(SourceName::File)),
            state_dir: settings.state_dir.unwrap_or_else(|| "/run/observer".into()),
            bpffs: settings.bpffs.unwrap_or_else(|| "/sys/fs/bpf/observer".into()),
            log_level: settings.log_level.unwrap_or(LogLevel::Info),
        })
    }
}

/// Checks the ranges of values, which a file can violate, and settings that depend on each other.
fn check(settings: &Settings) -> Result<(), ConfigError> {
    if let Some(seconds) = settings.records.window.filter(|seconds| !(1..=600).contains(seconds)) {
        return Err(ConfigError::Window(seconds));
    }
    if let Some(seconds) = settings.stop_timeout.filter(|seconds| !(1..=3600).contains(seconds)) {
        return Err(ConfigError::StopTimeout(seconds));
    }
    if settings.max_flows == Some(0) {
        return Err(ConfigError::MaxFlows);
    }
    if settings.source.contains(&SourceName::File) && settings.tasks_file.is_none() {
        return Err(ConfigError::NoTasksFile);
    }
    Ok(())
}

/// CA certificates to trust in place of the system's: the file of the flag, else of the variable
/// that all AWS tools read.
fn ca_bundle(flag: Option<PathBuf>) -> Result<(Option<PathBuf>, Trust), ConfigError> {
    let variable = || env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let (by, path) = match flag {
        Some(path) => ("--ca-bundle", Some(path)),
        None => ("AWS_CA_BUNDLE", variable()),
    };
    let trust = path.as_deref().map(Trust::read).transpose();
    let trust = trust.map_err(|source| ConfigError::CaBundle { by, source })?;
    Ok((path, trust.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sink::Output;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("observer.toml");
        fs::write(&path, text).unwrap();
        file::read(&path)
    }

    #[test]
    fn the_printed_configuration_is_equal_when_read() {
        let defaults = Config::from_settings(Settings::default()).unwrap();
        let again = Config::from_settings(read(&defaults.to_toml()).unwrap()).unwrap();
        assert_eq!(again.to_toml(), defaults.to_toml());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let records = RecordSettings { window: Some(5), ..RecordSettings::default() };
        let flags = Settings { records, ..Settings::default() };
        let merged = merge(flags, read("window = 10\nflow-memory = \"8MiB\"\noutput = [\"text\"]").unwrap());
        let config = Config::from_settings(merged).unwrap();
        assert_eq!(config.window, 5);
        assert_eq!(config.flow_memory, Some(ByteSize::mib(8)));
        assert_eq!(config.output.outputs, [Output::Text]);
        assert_eq!(config.listen.port(), 9810);
    }

    #[test]
    fn invalid_keys_and_values_are_reported_with_their_line() {
        for (text, line, word) in [
            ("window = 10\nwidnow = 5", 2, "widnow"),
            ("\n\nwindow = \"ten\"", 3, "string"),
            ("output = [\"csv\"]", 1, "csv"),
            ("flow-memory = \"lots\"", 1, "lots"),
            ("window = ", 1, ""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
            assert!(error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn values_of_the_file_are_checked_like_flags() {
        let settings = read("window = 601").unwrap();
        assert!(matches!(Config::from_settings(settings), Err(ConfigError::Window(601))));
        let settings = read("source = [\"file\"]").unwrap();
        assert!(matches!(Config::from_settings(settings), Err(ConfigError::NoTasksFile)));
    }
}
