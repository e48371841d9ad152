//! A running daemon: its HTTP pages, its threads, its end.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::process::Guard;
use crate::{
    hook::Hook,
    http,
    metrics::Metrics,
    netns::Namespace,
    poll::{self, PATIENCE},
    report::Report,
    veth::Interface,
};

/// A stopped thread of the daemon. Drop it on the thread that created it, which is the tracer.
#[derive(Debug)]
pub struct FrozenThread(Pid);

impl Drop for FrozenThread {
    fn drop(&mut self) {
        // A thread that has ended must be reaped by its tracer.
        if ptrace::detach(self.0, None).is_err() {
            let _ = waitpid(self.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
        }
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon<'lab> {
    pub(super) child: Guard,
    pub(super) listen: SocketAddr,
    pub(super) hook: Hook,
    pub(super) inside: Option<&'lab Namespace>,
    pub(super) out: PathBuf,
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

impl Daemon<'_> {
    /// Directory of its records.
    pub fn out(&self) -> &Path {
        &self.out
    }

    /// The hook it was configured with.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Address of its HTTP server.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Targets of its file descriptors, except record files, whose number depends on the time of
    /// day.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let leads = fs::read_dir(format!("/proc/{}/fd", self.pid()))?
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|lead| !lead.starts_with(&self.out));
        Ok(leads.map(|lead| lead.to_string_lossy().into_owned()).collect())
    }

    /// The end of its standard error, for messages.
    pub fn said(&self) -> String {
        const LINES: usize = 30;
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        format!("the daemon's stderr ends with:\n{}", tail.join("\n"))
    }

    /// Waits until its standard error contains `wanted`.
    pub fn wait_said(&self, wanted: &str) -> Result<()> {
        poll::until_true(&format!("the daemon says {wanted:?}"), PATIENCE, || {
            self.ensure_alive()?;
            Ok(fs::read_to_string(&self.stderr)?.contains(wanted))
        })
        .with_context(|| self.said())
    }

    /// Requests a page of its HTTP server.
    pub fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.listen, path, self.inside)
    }

    /// Scrapes its metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        self.ensure_alive()?;
        let answer = self.get("/metrics").with_context(|| self.said())?;
        ensure!(answer.status == 200, "/metrics answers {}: {}", answer.status, answer.body);
        Metrics::parse(&answer.body)
    }

    /// Scrapes its metrics until the condition `wanted` holds.
    pub fn wait(&self, what: &str, mut wanted: impl FnMut(&Metrics) -> bool) -> Result<Metrics> {
        let page = poll::until(what, PATIENCE, || {
            let page = self.metrics()?;
            Ok(wanted(&page).then_some(page))
        });
        page.with_context(|| self.said())
    }

    /// Its report about tasks.
    pub fn report(&self) -> Result<Report> {
        let answer = self.get("/api/v1/tasks").with_context(|| self.said())?;
        ensure!(answer.status == 200, "/api/v1/tasks answers {}: {}", answer.status, answer.body);
        Report::parse(&answer.body)
    }

    /// Requests its report about tasks until the condition `wanted` holds.
    pub fn wait_report(
        &self,
        what: &str,
        mut wanted: impl FnMut(&Report) -> bool,
    ) -> Result<Report> {
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
        self.wait(&format!("{} is attached", interface.id()), |page| {
            page.ledger(interface).is_some()
        })?;
        Ok(())
    }

    /// Waits until it has closed `count` more windows.
    pub fn wait_windows(&self, count: u64) -> Result<()> {
        let windows = |page: &Metrics| page.sum("observer_windows_total", &[]);
        let before = windows(&self.metrics()?);
        self.wait(&format!("{count} windows are closed"), |page| windows(page) >= before + count)?;
        Ok(())
    }

    /// Returns an error if its process has ended.
    pub fn ensure_alive(&self) -> Result<()> {
        let alive = kill(self.process(), None).is_ok() && !self.state().contains('Z');
        ensure!(alive, "the daemon has ended; {}", self.said());
        Ok(())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.process(), signal)?)
    }

    /// Stops the whole process (SIGSTOP).
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        poll::until_true("the daemon stands still", PATIENCE, || Ok(self.state() == "T"))
    }

    /// Resumes the process (SIGCONT).
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Stops one of its threads until the returned value is dropped; the other threads run on.
    pub fn freeze_thread(&self, name: &str) -> Result<FrozenThread> {
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            let path = task?.path();
            if fs::read_to_string(path.join("comm"))?.trim_end() == name {
                let number = path
                    .file_name()
                    .and_then(OsStr::to_str)
                    .context("a thread without a number")?;
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

    /// State letter, as `ps` shows it.
    fn state(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        behind_name.split(' ').next().unwrap_or("").to_owned()
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill();
    }

    /// Kills it with SIGKILL while one thread is stopped. Call it on the thread that froze it.
    pub fn kill_frozen(mut self, frozen: &FrozenThread) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        // A process ends only after its tracers have seen its threads end.
        poll::until("the daemon ends", PATIENCE, || {
            let _ = waitpid(frozen.0, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
            Ok(self.child.0.try_wait()?)
        })?;
        Ok(())
    }

    /// Stops it with `signal` and waits for exit code 0.
    pub fn stop_by(self, signal: Signal) -> Result<Stopped> {
        self.signal(signal)?;
        self.ends_with(0)
    }

    /// Waits for its end with this exit code.
    pub fn ends_with(self, code: i32) -> Result<Stopped> {
        self.ends(code, || {})
    }

    /// Waits for its end with this exit code while one thread is stopped. Call it on the thread
    /// that froze it.
    pub fn ends_with_frozen(self, code: i32, frozen: FrozenThread) -> Result<Stopped> {
        // A process ends only after its tracers have seen its threads end.
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
        Ok(Stopped {
            out: self.out.clone(),
            stdout: fs::read_to_string(&self.stdout)?,
            said: self.said(),
        })
    }

    /// Stops it with SIGTERM.
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

/// The files and output of a daemon that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// Directory of its records.
    pub out: PathBuf,
    /// Its standard output.
    pub stdout: String,
    /// The end of its standard error, for messages.
    pub said: String,
}
