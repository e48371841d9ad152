//! Settings of a daemon, and its start.

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr, OsString},
    fs::{self, File},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        resource::{Resource, setrlimit},
        stat::{Mode, umask},
    },
};

use super::{
    binary::{command, free_address},
    process::{Exit, Guard, run_to_end},
    running::Daemon,
};
use crate::{
    control_group::ControlGroup,
    hook::Hook,
    lab::Lab,
    netns::Namespace,
    poll::{self, PATIENCE},
};

/// The way in which settings are passed to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// `--window 60`
    Flags,
    /// `OBSERVER_WINDOW=60`
    Variables,
    /// `window = 60` in the file of `--config`
    File,
}

/// Settings that may be given several times, with all their values.
const LISTS: [&str; 5] = ["output", "source", "netns-dir", "filter", "vpc-cidr"];

fn grouped(settings: Vec<(&'static str, OsString)>) -> BTreeMap<&'static str, Vec<OsString>> {
    let mut grouped = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in settings {
        grouped.entry(name).or_default().push(value);
    }
    grouped
}

fn toml(settings: Vec<(&'static str, OsString)>) -> String {
    let lines = grouped(settings).into_iter().map(|(name, values)| {
        let values: Vec<String> =
            values.iter().map(|value| format!("{:?}", value.to_string_lossy())).collect();
        match (name, &values[..]) {
            (name, values) if LISTS.contains(&name) => {
                format!("{name} = [{}]\n", values.join(", "))
            }
            ("window", values) => format!("{name} = {}\n", values.concat().replace('"', "")),
            (name, values) => format!("{name} = {}\n", values.concat()),
        }
    });
    lines.collect()
}

/// The configuration of a daemon that is not started yet.
#[derive(Debug)]
pub struct Setup<'lab> {
    lab: &'lab Lab,
    name: &'static str,
    window: u32,
    outputs: Vec<&'static str>,
    sources: Vec<&'static str>,
    settings: Vec<(&'static str, OsString)>,
    by: By,
    inside: Option<&'lab Namespace>,
    hidden: Option<&'static CStr>,
    descriptors: Option<(u64, u64)>,
    umask: Option<Mode>,
    group: Option<&'lab ControlGroup>,
    hook: Option<Hook>,
    environment: Vec<(&'static str, OsString)>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Lab {
    /// A daemon with default settings, to be configured and started.
    pub fn daemon(&self) -> Setup<'_> {
        Setup::new(self)
    }
}

impl<'lab> Setup<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        Self {
            lab,
            name: "daemon",
            window: 60,
            outputs: vec!["jsonl"],
            sources: vec!["netns"],
            settings: Vec::new(),
            by: By::Flags,
            inside: None,
            hidden: None,
            descriptors: None,
            umask: None,
            group: None,
            hook: None,
            environment: Vec::new(),
            stdout: None,
            stderr: None,
        }
    }

    /// A name that distinguishes it from other daemons of the scenario.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Length of a window, in seconds.
    #[must_use]
    pub fn window(mut self, seconds: u32) -> Self {
        self.window = seconds;
        self
    }

    /// Adds an output to JSON lines.
    #[must_use]
    pub fn also_output(mut self, format: &'static str) -> Self {
        self.outputs.push(format);
        self
    }

    /// Replaces JSON lines with one output.
    #[must_use]
    pub fn only_output(mut self, format: &'static str) -> Self {
        self.outputs = vec![format];
        self
    }

    /// Replaces the source `netns`.
    #[must_use]
    pub fn sources(mut self, sources: &[&'static str]) -> Self {
        self.sources = sources.to_vec();
        self
    }

    /// Adds the source `file` with this output of `aws ecs describe-tasks`.
    #[must_use]
    pub fn tasks_file(mut self, path: &Path) -> Self {
        self.sources.push("file");
        self.set("tasks-file", path)
    }

    /// Adds a setting by the name of its flag.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.settings.push((name, value.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Replaces the file for its standard output.
    #[must_use]
    pub fn stdout(mut self, to: OwnedFd) -> Self {
        self.stdout = Some(to);
        self
    }

    /// Replaces the file for its standard error.
    #[must_use]
    pub fn stderr(mut self, to: OwnedFd) -> Self {
        self.stderr = Some(to);
        self
    }

    /// Chooses how settings are passed.
    #[must_use]
    pub fn by(mut self, by: By) -> Self {
        self.by = by;
        self
    }

    /// Chooses a hook instead of the run's. XDP is set up with `xdp-changes = accept`, and
    /// [`Books`](crate::books::Books) check that it was used.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Starts it inside a network namespace, which is its host.
    #[must_use]
    pub fn inside(mut self, namespace: &'lab Namespace) -> Self {
        self.inside = Some(namespace);
        self
    }

    /// Starts it on a host where this folder is empty.
    #[must_use]
    pub fn without(mut self, folder: &'static CStr) -> Self {
        self.hidden = Some(folder);
        self
    }

    /// Sets the soft and the hard limit of open file descriptors.
    #[must_use]
    pub fn descriptors(mut self, soft: u64, hard: u64) -> Self {
        self.descriptors = Some((soft, hard));
        self
    }

    /// Starts it with this umask.
    #[must_use]
    pub fn umask(mut self, umask: u32) -> Self {
        self.umask = Some(Mode::from_bits_truncate(umask));
        self
    }

    /// Starts it in a control group.
    #[must_use]
    pub fn in_group(mut self, group: &'lab ControlGroup) -> Self {
        self.group = Some(group);
        self
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.lab.path(&format!("{}-{kind}", self.name))
    }

    /// All settings; lists have one entry for each item.
    fn settings(&self, listen: SocketAddr, hook: Hook) -> Vec<(&'static str, OsString)> {
        let mut settings: Vec<(&'static str, OsString)> = vec![
            ("output-dir", self.path("out").into()),
            ("state-dir", self.path("state").into()),
            ("bpffs", self.path("bpffs").into()),
            ("netns-dir", self.lab.netns_dir().into()),
            ("listen", listen.to_string().into()),
            ("window", self.window.to_string().into()),
        ];
        settings.extend(self.outputs.iter().map(|output| ("output", output.into())));
        settings.extend(self.sources.iter().map(|source| ("source", source.into())));
        if let Some((mode, _)) = hook.xdp() {
            for (name, value) in [("hook", "xdp"), ("xdp-mode", mode), ("xdp-changes", "accept")] {
                settings.push((name, value.into()));
            }
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }

    fn chosen_hook(&self) -> Result<Hook> {
        self.hook.map_or_else(Hook::under_test, Ok)
    }

    /// The command line, and the address of its HTTP server.
    pub fn command(&self) -> Result<(Command, SocketAddr)> {
        let listen = free_address()?;
        let settings = self.settings(listen, self.chosen_hook()?);
        let mut command = command()?;
        command.arg("run").envs(self.environment.iter().map(|(name, value)| (name, value)));
        match self.by {
            By::Flags => {
                for (name, value) in settings {
                    command.arg(format!("--{name}")).arg(value);
                }
            }
            By::Variables => {
                for (name, values) in grouped(settings) {
                    let name = format!("OBSERVER_{}", name.to_uppercase().replace('-', "_"));
                    command.env(name, values.join(OsStr::new(",")));
                }
            }
            By::File => {
                let file = self.path("config.toml");
                fs::write(&file, toml(settings))?;
                command.arg("--config").arg(file);
            }
        }
        Ok((command, listen))
    }

    /// Runs `observer detach` with the same settings.
    pub fn detach(&self) -> Result<Exit> {
        let mut detach = command()?;
        detach.arg("detach");
        for (name, value) in self.settings(free_address()?, self.chosen_hook()?) {
            detach.arg(format!("--{name}")).arg(value);
        }
        run_to_end(&mut detach, PATIENCE)
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Daemon<'lab>> {
        let daemon = self.start_unready()?;
        poll::until_true("the daemon is ready", PATIENCE, || {
            daemon.ensure_alive()?;
            Ok(daemon.get("/readyz").is_ok_and(|answer| answer.status == 200))
        })
        .with_context(|| daemon.said())?;
        Ok(daemon)
    }

    /// Starts it without waiting.
    pub fn start_unready(self) -> Result<Daemon<'lab>> {
        let hook = self.chosen_hook()?;
        let (mut command, listen) = self.command()?;
        let (stdout, stderr) = (self.path("stdout"), self.path("stderr"));
        for (pipe, file, set) in [
            (
                &self.stdout,
                &stdout,
                Command::stdout::<OwnedFd> as fn(&mut Command, OwnedFd) -> &mut Command,
            ),
            (&self.stderr, &stderr, Command::stderr::<OwnedFd>),
        ] {
            // The file exists even with a pipe, so that its readers find it empty.
            let file = File::create(file)?;
            set(&mut command, pipe.as_ref().map_or(Ok(file.into()), OwnedFd::try_clone)?);
        }
        if let Some(namespace) = self.inside {
            namespace.place(&mut command)?;
        }
        if let Some(folder) = self.hidden {
            // SAFETY: between fork and exec only system calls are made.
            unsafe {
                command.pre_exec(move || Ok(hide(folder)?));
            }
        }
        if let Some((soft, hard)) = self.descriptors {
            // SAFETY: as above.
            unsafe {
                command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?));
            }
        }
        if let Some(mask) = self.umask {
            // SAFETY: as above.
            unsafe {
                command.pre_exec(move || {
                    umask(mask);
                    Ok(())
                });
            }
        }
        if let Some(group) = self.group {
            group.place(&mut command)?;
        }
        let child = Guard::spawn(&mut command)?;
        Ok(Daemon {
            child,
            listen,
            hook,
            inside: self.inside,
            out: self.path("out"),
            stdout,
            stderr,
        })
    }
}

/// Mounts an empty folder over `folder`, for this process only.
fn hide(folder: &CStr) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&CStr>, c"/", None::<&CStr>, flags, None::<&CStr>)?;
    mount(Some(c"none"), folder, Some(c"tmpfs"), MsFlags::empty(), None::<&CStr>)
}
