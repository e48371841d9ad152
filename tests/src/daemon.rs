//! The daemon: set up for one scenario, started, asked, stopped.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CStr, OsStr, OsString},
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        ptrace,
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::{
    control_group::ControlGroup,
    hook::Hook,
    http,
    lab::Lab,
    metrics::Metrics,
    netns::Namespace,
    poll::{self, PATIENCE},
    report::Report,
    veth::Interface,
};

/// The binary: `OBSERVER_BIN`, or where cargo puts it.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("OBSERVER_BIN") {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("release/observer")
}

/// A bare command, which nothing of our own environment reaches.
pub fn command() -> Result<Command> {
    let binary = binary();
    ensure!(
        binary.is_file(),
        "{} is not there: build it with `cargo xtask build`, or say where it is in OBSERVER_BIN",
        binary.display()
    );
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if text.starts_with("OBSERVER_") || text.starts_with("AWS_") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// An address of this host that nobody listens on, below the ports that the kernel gives away itself.
pub fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 5000;
    for _ in 0..1000 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between 20000 and 30000");
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Exit {
    /// Exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to its end; one that does not end is killed, which is an error.
pub fn run_to_end(command: &mut Command, patience: Duration) -> Result<Exit> {
    let mut child = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| stdout.map_or(Ok(String::new()), io::read_to_string));
        let errors = scope.spawn(|| stderr.map_or(Ok(String::new()), io::read_to_string));
        let ended = poll::until("the program ends", patience, || Ok(child.0.try_wait()?));
        if ended.is_err() {
            // Closes what the threads read.
            child.kill();
        }
        let read = |it: thread::ScopedJoinHandle<'_, io::Result<String>>| -> Result<String> {
            Ok(it.join().map_err(|_| anyhow::anyhow!("reading panicked"))??)
        };
        let (stdout, stderr) = (read(out)?, read(errors)?);
        let status = ended.with_context(|| format!("it said:\n{stdout}{stderr}"))?;
        Ok(Exit { status, stdout, stderr })
    })
}

/// A child that does not outlive this value.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts a program that ends with this process, however that ends.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Ok(Self(command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?))
    }

    /// Asks it to end, and waits until it did.
    pub(crate) fn end(&mut self, by: Signal) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), by);
        let _ = poll::until("the program ends", PATIENCE, || Ok(self.0.try_wait()?));
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How settings reach a daemon.
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
            (name, values) if LISTS.contains(&name) => format!("{name} = [{}]\n", values.join(", ")),
            ("window", values) => format!("{name} = {}\n", values.concat().replace('"', "")),
            (name, values) => format!("{name} = {}\n", values.concat()),
        }
    });
    lines.collect()
}

/// A daemon to be.
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
    group: Option<&'lab ControlGroup>,
    hook: Option<Hook>,
    environment: Vec<(&'static str, OsString)>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl<'lab> Setup<'lab> {
    pub(crate) fn new(lab: &'lab Lab) -> Self {
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
            group: None,
            hook: None,
            environment: Vec::new(),
            stdout: None,
            stderr: None,
        }
    }

    /// A name that tells it from other daemons of the scenario.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Seconds per window.
    #[must_use]
    pub fn window(mut self, seconds: u32) -> Self {
        self.window = seconds;
        self
    }

    /// One more output beside JSON lines.
    #[must_use]
    pub fn also_output(mut self, format: &'static str) -> Self {
        self.outputs.push(format);
        self
    }

    /// One output instead of JSON lines.
    #[must_use]
    pub fn only_output(mut self, format: &'static str) -> Self {
        self.outputs = vec![format];
        self
    }

    /// The sources, instead of `netns` alone.
    #[must_use]
    pub fn sources(mut self, sources: &[&'static str]) -> Self {
        self.sources = sources.to_vec();
        self
    }

    /// The output of `aws ecs describe-tasks`.
    #[must_use]
    pub fn tasks_file(mut self, path: &Path) -> Self {
        self.sources.push("file");
        self.set("tasks-file", path)
    }

    /// One more setting, by the name of its flag.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.settings.push((name, value.as_ref().to_owned()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name, value.as_ref().to_owned()));
        self
    }

    /// Its standard output, instead of a file.
    #[must_use]
    pub fn stdout(mut self, to: OwnedFd) -> Self {
        self.stdout = Some(to);
        self
    }

    /// Its standard error, instead of a file.
    #[must_use]
    pub fn stderr(mut self, to: OwnedFd) -> Self {
        self.stderr = Some(to);
        self
    }

    /// How the settings reach it.
    #[must_use]
    pub fn by(mut self, by: By) -> Self {
        self.by = by;
        self
    }

    /// The hook, instead of the one that the run is about. XDP is put on interfaces whatever changes with it, and
    /// [`Books`](crate::books::Books) make sure that it was.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Starts it inside a namespace, which is the host to it.
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

    /// Limits how many descriptors it may have: until it raises that itself, and at all.
    #[must_use]
    pub fn descriptors(mut self, soft: u64, hard: u64) -> Self {
        self.descriptors = Some((soft, hard));
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

    /// All settings, those of lists once for each item.
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

    /// The command that starts it, and where it listens.
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

    /// Starts it and waits until it observes all that is there.
    pub fn start(self) -> Result<Daemon<'lab>> {
        let daemon = self.start_unready()?;
        poll::until_true("the daemon is ready", PATIENCE, || {
            daemon.ensure_alive()?;
            Ok(daemon.get("/readyz").is_ok_and(|answer| answer.status == 200))
        })
        .with_context(|| daemon.said())?;
        Ok(daemon)
    }

    /// Starts it only.
    pub fn start_unready(self) -> Result<Daemon<'lab>> {
        let hook = self.chosen_hook()?;
        let (mut command, listen) = self.command()?;
        let (stdout, stderr) = (self.path("stdout"), self.path("stderr"));
        for (pipe, file, set) in [
            (&self.stdout, &stdout, Command::stdout::<OwnedFd> as fn(&mut Command, OwnedFd) -> &mut Command),
            (&self.stderr, &stderr, Command::stderr::<OwnedFd>),
        ] {
            // The file is there all the same: what reads it finds nothing.
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
        if let Some(group) = self.group {
            group.place(&mut command)?;
        }
        let child = Guard::spawn(&mut command)?;
        Ok(Daemon { child, listen, hook, inside: self.inside, out: self.path("out"), stdout, stderr })
    }
}

/// Lays an empty folder over one, for this process alone.
fn hide(folder: &CStr) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&CStr>, c"/", None::<&CStr>, flags, None::<&CStr>)?;
    mount(Some(c"none"), folder, Some(c"tmpfs"), MsFlags::empty(), None::<&CStr>)
}

/// A thread of the daemon that stands still as long as this lives, which is to be on the thread that made it.
#[derive(Debug)]
pub struct FrozenThread(Pid);

impl Drop for FrozenThread {
    fn drop(&mut self) {
        // One that is gone is to be waited for by whoever traced it, and else needs nothing.
        if ptrace::detach(self.0, None).is_err() {
            let _ = waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        }
    }
}

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon<'lab> {
    child: Guard,
    listen: SocketAddr,
    hook: Hook,
    inside: Option<&'lab Namespace>,
    out: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon<'_> {
    /// Where its records go.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// Where it was told to count.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// What its descriptors lead to, but for files of records: how many of those are open depends on the time of day.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let leads = fs::read_dir(format!("/proc/{}/fd", self.pid()))?
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|lead| !lead.starts_with(&self.out));
        Ok(leads.map(|lead| lead.to_string_lossy().into_owned()).collect())
    }

    /// The end of what it said, for messages.
    pub fn said(&self) -> String {
        const LINES: usize = 30;
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("the daemon's stderr ends with:\n{}", tail.join("\n"))
    }

    /// Waits until it says so.
    pub fn wait_said(&self, wanted: &str) -> Result<()> {
        poll::until_true(&format!("the daemon says {wanted:?}"), PATIENCE, || {
            self.ensure_alive()?;
            Ok(fs::read_to_string(&self.stderr)?.contains(wanted))
        })
        .with_context(|| self.said())
    }

    /// Asks its HTTP server.
    pub fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.listen, path, self.inside)
    }

    /// Scrapes it.
    pub fn metrics(&self) -> Result<Metrics> {
        self.ensure_alive()?;
        let answer = self.get("/metrics").with_context(|| self.said())?;
        ensure!(answer.status == 200, "/metrics answers {}: {}", answer.status, answer.body);
        Metrics::parse(&answer.body)
    }

    /// Scrapes it until the page is as wanted.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Metrics) -> bool) -> Result<Metrics> {
        let page = poll::until(what, PATIENCE, || {
            let page = self.metrics()?;
            Ok(wanted(&page).then_some(page))
        });
        page.with_context(|| self.said())
    }

    /// What it knows of tasks.
    pub fn report(&self) -> Result<Report> {
        let answer = self.get("/api/v1/tasks").with_context(|| self.said())?;
        ensure!(answer.status == 200, "/api/v1/tasks answers {}: {}", answer.status, answer.body);
        Report::parse(&answer.body)
    }

    /// Asks until what it knows of tasks is as wanted.
    pub fn wait_report(&self, what: &str, mut wanted: impl FnMut(&Report) -> bool) -> Result<Report> {
        let mut last = None;
        let report = poll::until(what, PATIENCE, || {
            let report = self.report()?;
            let fits = wanted(&report);
            last = Some(report.clone());
            Ok(fits.then_some(report))
        });
        report.with_context(|| format!("{last:?}\n{}", self.said()))
    }

    /// Waits until an interface is observed.
    pub fn wait_attached(&self, interface: &Interface) -> Result<()> {
        self.wait(&format!("{} is attached", interface.id()), |page| page.ledger(interface).is_some())?;
        Ok(())
    }

    /// Waits until it has closed `count` more windows.
    pub fn wait_windows(&self, count: u64) -> Result<()> {
        let windows = |page: &Metrics| page.sum("observer_windows_total", &[]);
        let before = windows(&self.metrics()?);
        self.wait(&format!("{count} windows are closed"), |page| windows(page) >= before + count)?;
        Ok(())
    }

    /// Fails where its process has ended.
    pub fn ensure_alive(&self) -> Result<()> {
        let alive = kill(self.process(), None).is_ok() && !self.state().contains('Z');
        ensure!(alive, "the daemon has ended; {}", self.said());
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.process(), signal)?)
    }

    /// Stops it in its tracks.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        poll::until_true("the daemon stands still", PATIENCE, || Ok(self.state() == "T"))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Stops one of its threads until what is returned goes, while the others run on.
    pub fn freeze_thread(&self, name: &str) -> Result<FrozenThread> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let path = task?.path();
            if fs::read_to_string(path.join("comm"))?.trim_end() == name {
                let number = path.file_name().and_then(OsStr::to_str).context("a thread without a number")?;
                let thread = Pid::from_raw(number.parse()?);
                ptrace::seize(thread, ptrace::Options::empty())?;
                let frozen = FrozenThread(thread);
                ptrace::interrupt(thread)?;
                waitpid(thread, Some(WaitPidFlag::__WALL))?;
                return Ok(frozen);
            }
        }
        bail!("the daemon has no thread {name:?}")
    }

    fn process(&self) -> Pid {
        Pid::from_raw(self.pid() as i32)
    }

    /// The letter of its state, as `ps` shows it.
    fn state(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        behind_name.split(' ').next().unwrap_or("").to_owned()
    }

    /// Kills it, which it cannot notice.
    pub fn kill(mut self) {
        self.child.kill();
    }

    /// Asks it to end by `signal` and waits until it did, as the contract says.
    pub fn stop_by(self, signal: Signal) -> Result<Stopped> {
        self.signal(signal)?;
        self.ends_with(0)
    }

    /// Waits until it has ended, with this exit code.
    pub fn ends_with(self, code: i32) -> Result<Stopped> {
        self.ends(code, || {})
    }

    /// Waits until it has ended, with this exit code and with a thread that stands still. To be called by the thread of the
    /// scenario that froze it.
    pub fn ends_with_frozen(self, code: i32, frozen: FrozenThread) -> Result<Stopped> {
        // A process ends only when its tracers have seen its threads end.
        let stopped = self.ends(code, || {
            let _ = waitpid(frozen.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        });
        drop(frozen);
        stopped
    }

    fn ends(mut self, code: i32, mut meanwhile: impl FnMut()) -> Result<Stopped> {
        let ended = poll::until("the daemon stops", PATIENCE, || {
            meanwhile();
            Ok(self.child.0.try_wait()?)
        });
        let status = ended.with_context(|| self.said())?;
        ensure!(
            status.code() == Some(code),
            "it ends with code {:?}, signal {:?}, instead of code {code}; {}",
            status.code(),
            status.signal(),
            self.said()
        );
        Ok(Stopped { out: self.out.clone(), stdout: fs::read_to_string(&self.stdout)?, said: self.said() })
    }

    /// Asks it to end by SIGTERM.
    pub fn stop(self) -> Result<Stopped> {
        self.stop_by(Signal::SIGTERM)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// What a daemon left behind.
#[derive(Debug)]
pub struct Stopped {
    /// Where its records are.
    pub out: PathBuf,
    /// Its standard output.
    pub stdout: String,
    /// The end of its standard error, for messages.
    pub said: String,
}
