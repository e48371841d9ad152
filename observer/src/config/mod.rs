//! The configuration: flags, variables and file in, one validated [`Config`] out.
//!
//! Owns: defaults, and which of the three wins. What a value must be is checked where its type is read; what the
//! values must be together, here.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, Deserializer},
};

use crate::{
    cli::{
        AttachName, DropsName, HookName, LogLevel, Output, RecordSettings, RunArgs, Settings, SourceName,
        XdpChanges, XdpModeName,
    },
    tasks::PROC,
};

/// How `observer run` runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where record files go.
    pub output_dir: PathBuf,
    /// What is written, each once.
    pub outputs: Vec<Output>,
    /// Seconds per window.
    pub window: u32,
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
    /// Flows in one window.
    pub max_flows: u32,
    /// Whether drops are seen.
    pub drops: DropsName,
    /// Bytes of kernel memory.
    pub flow_memory: ByteSize,
    /// Observe the namespaces of containers and tasks.
    pub netns: bool,
    /// Observe the host's own interfaces.
    pub host: bool,
    /// Folders of namespace files.
    pub netns_dirs: Vec<PathBuf>,
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
}

impl Config {
    /// Completes the flags from the file and the defaults.
    pub fn new(args: RunArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => Settings::default(),
        };
        Self::from_settings(over(args.settings, file))
    }

    /// For a replay: without flags its records are printed, and only where to is asked for are there files.
    pub fn for_replay(mut records: RecordSettings, tasks_file: Option<PathBuf>) -> Result<Self, ConfigError> {
        if records.output_dir.is_none() {
            if records.output.is_empty() {
                records.output.push(Output::Stdout);
            }
            if records.output.iter().any(|output| *output != Output::Stdout) {
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
        if settings.max_flows == Some(0) {
            return Err(ConfigError::MaxFlows);
        }
        let asked = |name| settings.source.is_empty() || settings.source.contains(&name);
        if settings.source.contains(&SourceName::File) && settings.tasks_file.is_none() {
            return Err(ConfigError::NoTasksFile);
        }
        let mut outputs = settings.records.output.clone();
        if outputs.is_empty() {
            outputs.push(Output::Jsonl);
        }
        let mut seen = Vec::new();
        outputs.retain(|output| {
            !seen.contains(output) && {
                seen.push(*output);
                true
            }
        });
        let netns_dirs = if settings.netns_dir.is_empty() {
            ["/run/netns", "/run/docker/netns", PROC].map(PathBuf::from).to_vec()
        } else {
            settings.netns_dir.clone()
        };
        Ok(Self {
            output_dir: settings.records.output_dir.unwrap_or_else(|| "/var/log/observer".into()),
            outputs,
            window,
            listen: settings.listen.unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9810))),
            hook: settings.hook.unwrap_or(HookName::Tc),
            xdp_mode: settings.xdp_mode.unwrap_or(XdpModeName::Auto),
            xdp_changes: settings.xdp_changes.unwrap_or(XdpChanges::Refuse),
            attach: settings.attach.unwrap_or(AttachName::Auto),
            max_flows: settings.max_flows.unwrap_or(2_000_000),
            drops: settings.drops.unwrap_or(DropsName::Auto),
            flow_memory: settings.flow_memory.unwrap_or(ByteSize::mib(64)),
            netns: asked(SourceName::Netns),
            host: asked(SourceName::Host),
            netns_dirs,
            tasks_file: settings.tasks_file.filter(|_| asked(SourceName::File)),
            state_dir: settings.state_dir.unwrap_or_else(|| "/run/observer".into()),
            bpffs: settings.bpffs.unwrap_or_else(|| "/sys/fs/bpf/observer".into()),
            log_level: settings.log_level.unwrap_or(LogLevel::Info),
        })
    }

    /// The file that says the same.
    pub fn to_toml(&self) -> String {
        let quoted = |path: &Path| toml::Value::from(path.display().to_string()).to_string();
        let name = |value: &dyn std::fmt::Debug| format!("\"{value:?}\"").to_lowercase();
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let mut sources = Vec::new();
        for (name, asked) in [("netns", self.netns), ("host", self.host), ("file", self.tasks_file.is_some())]
        {
            if asked {
                sources.push(format!("\"{name}\""));
            }
        }
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        line("output-dir", quoted(&self.output_dir));
        line("output", list(self.outputs.iter().map(|output| name(output)).collect()));
        line("window", self.window.to_string());
        line("listen", format!("\"{}\"", self.listen));
        line("hook", name(&self.hook));
        line("xdp-mode", name(&self.xdp_mode));
        line("xdp-changes", name(&self.xdp_changes));
        line("attach", name(&self.attach));
        line("max-flows", self.max_flows.to_string());
        line("drops", name(&self.drops));
        line("flow-memory", format!("\"{}B\"", self.flow_memory.as_u64()));
        line("source", list(sources));
        line("netns-dir", list(self.netns_dirs.iter().map(|directory| quoted(directory)).collect()));
        if let Some(file) = &self.tasks_file {
            line("tasks-file", quoted(file));
        }
        line("state-dir", quoted(&self.state_dir));
        line("bpffs", quoted(&self.bpffs));
        line("log-level", name(&self.log_level));
        text
    }
}

/// What `first` leaves open, `second` fills.
fn over(first: Settings, second: Settings) -> Settings {
    fn list<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
        if first.is_empty() { second } else { first }
    }
    Settings {
        records: RecordSettings {
            output_dir: first.records.output_dir.or(second.records.output_dir),
            output: list(first.records.output, second.records.output),
            window: first.records.window.or(second.records.window),
        },
        listen: first.listen.or(second.listen),
        hook: first.hook.or(second.hook),
        xdp_mode: first.xdp_mode.or(second.xdp_mode),
        xdp_changes: first.xdp_changes.or(second.xdp_changes),
        attach: first.attach.or(second.attach),
        max_flows: first.max_flows.or(second.max_flows),
        drops: first.drops.or(second.drops),
        flow_memory: first.flow_memory.or(second.flow_memory),
        source: list(first.source, second.source),
        netns_dir: list(first.netns_dir, second.netns_dir),
        tasks_file: first.tasks_file.or(second.tasks_file),
        state_dir: first.state_dir.or(second.state_dir),
        bpffs: first.bpffs.or(second.bpffs),
        log_level: first.log_level.or(second.log_level),
    }
}

/// Longer is no configuration.
const MAX_FILE: u64 = 1 << 20;

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_path_buf(), source };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other("too long for a configuration")));
    }
    settings(&text).map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| {
            let number = text.get(..span.start).unwrap_or(&text).matches('\n').count();
            // The message names a key only where the key is what is wrong.
            let key = text.lines().nth(number).and_then(|line| line.split_once('='));
            let key = key.map_or_else(String::new, |(key, _)| format!(" ({})", key.trim()));
            format!(", line {}{key}", number + 1)
        });
        // The message alone: the whole would draw the line with a marker under it.
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        ConfigError::Parse { path: path.to_path_buf(), place, message }
    })
}

/// The settings of a file. They are of two kinds, and serde's own way to join them would forget the lines.
fn settings(text: &str) -> Result<Settings, toml::de::Error> {
    let keys = |of_records: bool| {
        let table = DeTable::parse(text)?;
        let span = table.span();
        let is_wanted = |key: &str| RecordSettings::KEYS.contains(&key) == of_records;
        let kept = table.into_inner().into_iter().filter(|(key, _)| is_wanted(key.get_ref())).collect();
        Ok(Deserializer::from(Spanned::new(span, kept)))
    };
    Ok(Settings {
        records: RecordSettings::deserialize(keys(true)?)?,
        ..Settings::deserialize(keys(false)?)?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("observer.toml");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn the_printed_configuration_says_the_same_when_read() {
        let defaults = Config::from_settings(Settings::default()).unwrap();
        let again = Config::from_settings(file(&defaults.to_toml()).unwrap()).unwrap();
        assert_eq!(again.to_toml(), defaults.to_toml());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let records = RecordSettings { window: Some(5), ..RecordSettings::default() };
        let flags = Settings { records, ..Settings::default() };
        let merged = over(flags, file("window = 10\nflow-memory = \"8MiB\"\noutput = [\"text\"]").unwrap());
        let config = Config::from_settings(merged).unwrap();
        assert_eq!(config.window, 5);
        assert_eq!(config.flow_memory, ByteSize::mib(8));
        assert_eq!(config.outputs, [Output::Text]);
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
            let error = file(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
            assert!(error.contains(word), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn values_of_the_file_are_checked_like_flags() {
        let settings = file("window = 601").unwrap();
        assert!(matches!(Config::from_settings(settings), Err(ConfigError::Window(601))));
        let settings = file("source = [\"file\"]").unwrap();
        assert!(matches!(Config::from_settings(settings), Err(ConfigError::NoTasksFile)));
    }
}
