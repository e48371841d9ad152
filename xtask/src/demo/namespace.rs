//! Network namespaces bound to private files, invisible to `ip netns` and to the host.

use std::{
    fs::File,
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    panic,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::host;

/// A namespace. It lives as long as its mount or a process inside.
#[derive(Debug, Clone)]
pub(super) struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Creates a namespace and binds it to a new file, in the two steps of `ip netns add`.
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let making = || format!("making the network namespace {}", path.display());
        File::create_new(&path).with_context(making)?;
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?)
        })
        .with_context(making)?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside. Sockets that it makes belong to the namespace, wherever they are used.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file =
            File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        on_a_thread(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
                .context("entering a network namespace")?;
            work()
        })
    }

    /// Runs lines of `ip -batch` inside.
    pub(super) fn ip(&self, lines: &str) -> Result<()> {
        let program = host::find_program("ip").context("`ip` is not there: install iproute2")?;
        let output = self.run(|| {
            let mut ip = Command::new(program)
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                // In its own process group, so that Ctrl-C does not interrupt it.
                .process_group(0)
                .spawn()?;
            if let Some(mut stdin) = ip.stdin.take() {
                stdin.write_all(lines.as_bytes())?;
            }
            Ok(ip.wait_with_output()?)
        })?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip says: {}\nof these lines:\n{lines}", said.trim());
        Ok(())
    }
}

/// Runs `work` on a thread, which may leave its namespace and end; the main thread must not.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        scope.spawn(work).join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    })
}
