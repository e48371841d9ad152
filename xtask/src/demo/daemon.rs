//! The daemon as a child process: started, queried, stopped, and killed if the demo ends first.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
    },
    unistd::{Pid, getpid, getppid},
};

use super::{
    network,
    page::{self, Page},
    place::Place,
    signals::Signals,
    timing::{PATIENCE, WINDOW},
};

/// Folder of its records, in the demo's folder.
pub(super) const RECORDS: &str = "records";

#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    listen: SocketAddr,
    command: String,
    stderr: PathBuf,
}

impl Daemon {
    pub(super) fn start(program: &Path, place: &Place, tasks_file: &Path) -> Result<Self> {
        let listen = free_address().context("an address for /metrics")?;
        let arguments = arguments(place, tasks_file, listen);
        let stderr = place.path("stderr");
        let mut command = Command::new(program);
        command
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?);
        // Variables that configure the user's own daemon must not reach this one.
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OBSERVER_"))
        {
            command.env_remove(name);
        }
        tie_to_us(&mut command);
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { child, listen, command: shown(&arguments), stderr })
    }

    /// The command line that started it.
    pub(super) fn command(&self) -> &str {
        &self.command
    }

    pub(super) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.listen)
    }

    /// The metrics page, once all interfaces found at the start are observed; `None` before.
    pub(super) fn ready_page(&mut self) -> Result<Option<Page>> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the daemon ended ({status}): {}", self.said());
        }
        match page::get(self.listen, "/readyz") {
            Ok((200, _)) => self.page().map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn page(&self) -> Result<Page> {
        match page::get(self.listen, "/metrics") {
            Ok((200, text)) => Ok(Page::new(text)),
            Ok((status, _)) => bail!("/metrics answers {status}; the daemon says: {}", self.said()),
            Err(error) => {
                Err(error).with_context(|| format!("/metrics; the daemon says: {}", self.said()))
            }
        }
    }

    /// Stops it, which finishes its files.
    pub(super) fn stop(&mut self, signals: &Signals) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM)?;
        let status =
            signals.until("the daemon stops", PATIENCE, || Ok(self.child.try_wait()?))?;
        if !status.success() {
            bail!("the daemon ended badly ({status}): {}", self.said());
        }
        Ok(())
    }

    /// The end of its standard error.
    fn said(&self) -> String {
        const LINES: usize = 10;
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGTERM);
        }
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(place: &Place, tasks_file: &Path, listen: SocketAddr) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["run", "--source", "netns", "--source", "file", "--netns-dir"].map(Into::into).into();
    arguments.extend([
        place.path(network::OBSERVED).into(),
        "--tasks-file".into(),
        tasks_file.into(),
    ]);
    arguments.extend(["--output", "jsonl", "--output", "text", "--output-dir"].map(Into::into));
    arguments.extend([place.path(RECORDS).into(), "--window".into(), WINDOW.to_string().into()]);
    arguments.extend(["--listen".into(), listen.to_string().into()]);
    arguments.extend(["--state-dir".into(), place.path("state").into()]);
    // This folder is on no BPF file system, so the daemon mounts its own. The host's may hold the
    // pins of a running daemon.
    arguments.extend(["--bpffs".into(), place.path("pins").into()]);
    arguments
}

/// The command line, wrapped before flags.
fn shown(arguments: &[OsString]) -> String {
    let mut lines = vec!["observer".to_owned()];
    for argument in arguments.iter().map(|it| it.to_string_lossy()) {
        match lines.last_mut() {
            Some(line) if !argument.starts_with("--") || line.len() + argument.len() < 70 => {
                line.push(' ');
                line.push_str(&argument);
            }
            _ => lines.push(format!("      {argument}")),
        }
    }
    lines.join(" \\\n    ")
}

/// Lets the child die with this process. Its own process group keeps Ctrl-C from it, so that it is
/// stopped in order.
fn tie_to_us(command: &mut Command) {
    let demo = getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            SigSet::empty().thread_set_mask()?;
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // If the demo ended before that call, no signal would be sent.
            if getppid() == demo { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}

/// A free address of this host.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
