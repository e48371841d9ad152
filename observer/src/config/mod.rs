//! The configuration: flags, variables and file in, one validated [`Config`] out.
//!
//! Owns: defaults, and which of the three wins. What a value must be is checked where its type is read; what the
//! values must be together, here.

mod delivery;
mod file;
mod output;

use std::{
    env,
    fmt::Write as _,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;

use self::delivery::DeliverySettings;
pub use self::{delivery::DeliveryConfig, output::OutputConfig};
use crate::{
    cli::{
        self, AttachName, DropsName, HookName, HttpUrl, ListenAddress, LogLevel, RecordSettings, RunArgs,
        Settings, SourceName, XdpChanges, XdpModeName,
    },
    http::{Trust, TrustError},
    record::{FilterError, FormatError, ServiceRangesError},
    sink::StoreError,
    tasks::{Endpoint, PROC},
    text_file::EncodingError,
};

/// How `observer run` runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is written, and where.
    pub output: OutputConfig,
    /// Where finished files are put.
    pub delivery: Option<DeliveryConfig>,
    /// File of CA certificates.
    pub ca_bundle: Option<PathBuf>,
    /// Those certificates, or the system's.
    pub trust: Trust,
    /// Seconds per window.
    pub window: u32,
    /// How long a stop may take.
    pub stop_timeout: Duration,
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Where packets are counted.
    pub hook: HookName,
    /// Where XDP runs.
    pub xdp_mode: XdpModeName,
    /// Whether XDP may change an interface.
    pub xdp_changes: XdpChanges,
    /// How TC programs are attached.
    pub attach: AttachName,
    /// Flows in one window; `None` where the limit of memory decides.
    pub max_flows: Option<u32>,
    /// Whether drops are seen.
    pub drops: DropsName,
    /// Bytes of kernel memory for flows; `None` where the limit of memory decides.
    pub flow_memory: Option<ByteSize>,
    /// Observe the namespaces of containers and tasks.
    pub netns: bool,
    /// Observe the host's own interfaces.
    pub host: bool,
    /// Folders of namespace files.
    pub netns_dirs: Vec<PathBuf>,
    /// Socket of the Docker Engine. Of this and the next ones, `None` where that source is not asked.
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
    /// Lock and private files.
    pub state_dir: PathBuf,
    /// Folder on a BPF file system.
    pub bpffs: PathBuf,
    /// What is logged.
    pub log_level: LogLevel,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}: give --config a file that can be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no text in UTF-8.
    #[error("configuration file {path}: {source}")]
    Encoding {
        /// Which file.
        path: PathBuf,
        /// What it is.
        source: EncodingError,
    },
    /// The file says something that is not understood.
    #[error(
        "configuration file {path}{place}: {message}: see `observer run --help` for the keys and their values"
    )]
    Parse {
        /// Which file.
        path: PathBuf,
        /// `, line 3`
        place: String,
        /// What is wrong there.
        message: String,
    },
    /// A source has nothing to read.
    #[error("--source file needs --tasks-file: give it the saved output of `aws ecs describe-tasks`")]
    NoTasksFile,
    /// Files of a replay are not to lie among the daemon's unasked.
    #[error("--output writes files: say where with --output-dir")]
    NoOutputDir,
    /// A value in the file is out of range.
    #[error("window = {0}: give 1 to 600 seconds")]
    Window(u32),
    /// The same.
    #[error("max-flows = 0: give 1 or more")]
    MaxFlows,
    /// The fields of text are none.
    #[error("--log-format: {0}")]
    LogFormat(#[from] FormatError),
    /// A rule about records is none.
    #[error("--filter: {0}")]
    Filter(#[from] FilterError),
    /// Nothing can be delivered there.
    #[error("--deliver: {0}")]
    Deliver(#[from] StoreError),
    /// What is said of the delivery is said of none.
    #[error("--{0} is about the delivery of files: say where they go with --deliver")]
    NoDelivery(&'static str),
    /// There is nothing to deliver.
    #[error("--deliver is for files: give --output jsonl, text or parquet too")]
    NoFiles,
    /// Files would be delivered over themselves, and removed.
    #[error(
        "--deliver file://{folder} lies in the output directory {directory}: give a folder outside of it"
    )]
    Inside {
        /// Where files were to go.
        folder: PathBuf,
        /// Where they are.
        directory: PathBuf,
    },
    /// Nobody could be trusted.
    #[error("{by} {source}")]
    CaBundle {
        /// The flag or the variable that names the file.
        by: &'static str,
        /// What is wrong with the file.
        source: TrustError,
    },
    /// A stop of no time would lose the last records.
    #[error("stop-timeout = {0}: give 1 to 3600 seconds")]
    StopTimeout(u32),
    /// Every file would be dropped at once.
    #[error("--spool-size {0}B: give more than twice --file-size, such as 1GiB")]
    SpoolSize(u64),
    /// A value would not do in the names of files.
    #[error("--{flag} {value:?}: give {wanted}")]
    Name {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Every record would have a file of its own.
    #[error("--file-size 0: give a size such as 75MB")]
    FileSize,
    /// The ranges of AWS's services cannot be read.
    #[error("--ip-ranges {path}: {source}: give a copy of https://ip-ranges.amazonaws.com/ip-ranges.json")]
    IpRanges {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// They are not what AWS publishes.
    #[error("--ip-ranges {path}: {source}: give a copy of https://ip-ranges.amazonaws.com/ip-ranges.json")]
    Services {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ServiceRangesError,
    },
}

impl ConfigError {
    /// The flag of the setting that is wrong.
    pub const fn flag(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { .. } | Self::Encoding { .. } | Self::Parse { .. } => "config",
            Self::NoTasksFile => "source",
            Self::NoOutputDir | Self::NoFiles => "output",
            Self::Window(_) => "window",
            Self::MaxFlows => "max-flows",
            Self::LogFormat(_) => "log-format",
            Self::Filter(_) => "filter",
            Self::Deliver(_) | Self::Inside { .. } => "deliver",
            Self::NoDelivery(flag) | Self::Name { flag, .. } => flag,
            Self::SpoolSize(_) => "spool-size",
            Self::CaBundle { .. } => "ca-bundle",
            Self::StopTimeout(_) => "stop-timeout",
            Self::FileSize => "file-size",
            Self::IpRanges { .. } | Self::Services { .. } => "ip-ranges",
        })
    }
}

/// Where the HTTP server listens.
const LISTEN: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9810));

impl Config {
    /// Completes the flags from the file and the defaults.
    pub fn new(args: RunArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => file::read(path)?,
            None => Settings::default(),
        };
        Self::from_settings(over(args.settings, file))
    }

    /// For a replay: without flags its records are printed, and only where to is asked for are there files.
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
        let window = settings.records.window.unwrap_or(60);
        if !(1..=600).contains(&window) {
            return Err(ConfigError::Window(window));
        }
        if let Some(seconds) = settings.stop_timeout.filter(|seconds| !(1..=3600).contains(seconds)) {
            return Err(ConfigError::StopTimeout(seconds));
        }
        if settings.max_flows == Some(0) {
            return Err(ConfigError::MaxFlows);
        }
        let asked = |name| settings.source.is_empty() || settings.source.contains(&name);
        if settings.source.contains(&SourceName::File) && settings.tasks_file.is_none() {
            return Err(ConfigError::NoTasksFile);
        }
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

    /// The file that says the same.
    pub fn to_toml(&self) -> String {
        let name = |value: &dyn std::fmt::Debug| format!("\"{value:?}\"").to_lowercase();
        let mut sources = Vec::new();
        for (name, asked) in [
            ("docker", self.docker_socket.is_some()),
            ("netns", self.netns),
            ("host", self.host),
            ("agent", self.agent_data.is_some()),
            ("introspection", self.introspection_url.is_some()),
            ("tmds", self.tmds_url.is_some()),
            ("imds", self.imds_url.is_some()),
            ("api", self.api.is_some()),
            ("file", self.tasks_file.is_some()),
        ] {
            if asked {
                sources.push(format!("\"{name}\""));
            }
        }
        let mut text = self.output.to_toml();
        let mut line = |key: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        if let Some(delivery) = &self.delivery {
            delivery.to_toml(&mut line);
        }
        if let Some(file) = &self.ca_bundle {
            line("ca-bundle", quoted(file));
        }
        line("window", self.window.to_string());
        line("stop-timeout", self.stop_timeout.as_secs().to_string());
        line("listen", format!("\"{}\"", self.listen));
        line("hook", name(&self.hook));
        line("xdp-mode", name(&self.xdp_mode));
        line("xdp-changes", name(&self.xdp_changes));
        line("attach", name(&self.attach));
        // Unless they are given, `run` takes them from the limits of the host that it starts on.
        if let Some(max_flows) = self.max_flows {
            line("max-flows", max_flows.to_string());
        }
        line("drops", name(&self.drops));
        if let Some(size) = self.flow_memory {
            line("flow-memory", format!("\"{}B\"", size.as_u64()));
        }
        line("source", list(sources));
        line("netns-dir", list(self.netns_dirs.iter().map(|directory| quoted(directory))));
        for (key, path) in [("docker-socket", &self.docker_socket), ("agent-data", &self.agent_data)] {
            if let Some(path) = path {
                line(key, quoted(path));
            }
        }
        for (key, url) in [
            ("introspection-url", &self.introspection_url),
            ("tmds-url", &self.tmds_url),
            ("imds-url", &self.imds_url),
        ] {
            if let Some(url) = url {
                line(key, quoted(Path::new(url)));
            }
        }
        if let Some(Endpoint::At(url)) = &self.api {
            line("api-url", quoted(Path::new(url)));
        }
        if let Some(file) = &self.tasks_file {
            line("tasks-file", quoted(file));
        }
        line("state-dir", quoted(&self.state_dir));
        line("bpffs", quoted(&self.bpffs));
        line("log-level", name(&self.log_level));
        text
    }
}

/// The CA certificates to trust instead of the system's: of the flag, else of the variable of all AWS tools.
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

/// A path as a value of TOML.
fn quoted(path: &Path) -> String {
    toml::Value::from(path.display().to_string()).to_string()
}

/// A list of values of TOML.
fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// What the first leaves open, the second fills.
fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

/// What `first` leaves open, `second` fills.
fn over(first: Settings, second: Settings) -> Settings {
    Settings {
        records: output::over(first.records, second.records),
        deliver: first.deliver.or(second.deliver),
        deliver_endpoint: first.deliver_endpoint.or(second.deliver_endpoint),
        deliver_kms_key: first.deliver_kms_key.or(second.deliver_kms_key),
        deliver_checksum: first.deliver_checksum.or(second.deliver_checksum),
        ca_bundle: first.ca_bundle.or(second.ca_bundle),
        stop_timeout: first.stop_timeout.or(second.stop_timeout),
        spool_size: first.spool_size.or(second.spool_size),
        listen: first.listen.or(second.listen),
        hook: first.hook.or(second.hook),
        xdp_mode: first.xdp_mode.or(second.xdp_mode),
        xdp_changes: first.xdp_changes.or(second.xdp_changes),
        attach: first.attach.or(second.attach),
        max_flows: first.max_flows.or(second.max_flows),
        drops: first.drops.or(second.drops),
        flow_memory: first.flow_memory.or(second.flow_memory),
        source: either(first.source, second.source),
        netns_dir: either(first.netns_dir, second.netns_dir),
        docker_socket: first.docker_socket.or(second.docker_socket),
        agent_data: first.agent_data.or(second.agent_data),
        introspection_url: first.introspection_url.or(second.introspection_url),
        tmds_url: first.tmds_url.or(second.tmds_url),
        imds_url: first.imds_url.or(second.imds_url),
        api_url: first.api_url.or(second.api_url),
        tasks_file: first.tasks_file.or(second.tasks_file),
        state_dir: first.state_dir.or(second.state_dir),
        bpffs: first.bpffs.or(second.bpffs),
        log_level: first.log_level.or(second.log_level),
    }
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
    fn the_printed_configuration_says_the_same_when_read() {
        let defaults = Config::from_settings(Settings::default()).unwrap();
        let again = Config::from_settings(read(&defaults.to_toml()).unwrap()).unwrap();
        assert_eq!(again.to_toml(), defaults.to_toml());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let records = RecordSettings { window: Some(5), ..RecordSettings::default() };
        let flags = Settings { records, ..Settings::default() };
        let merged = over(flags, read("window = 10\nflow-memory = \"8MiB\"\noutput = [\"text\"]").unwrap());
        let config = Config::from_settings(merged).unwrap();
        assert_eq!(config.window, 5);
        assert_eq!(config.flow_memory, Some(ByteSize::mib(8)));
        assert_eq!(config.output.outputs, [Output::Text]);
        assert_eq!(config.listen.port(), 9810);
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_line() {
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
