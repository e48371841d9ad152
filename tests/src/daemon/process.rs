//! Child processes: run to completion, or killed when their value is dropped.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::poll::{self, PATIENCE};

/// Exit status and output of a program.
#[derive(Debug)]
pub struct Exit {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a command to completion. A command that exceeds `patience` is killed, which is an error.
pub fn run_to_end(command: &mut Command, patience: Duration) -> Result<Exit> {
    let mut child = Guard(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| stdout.map_or(Ok(String::new()), io::read_to_string));
        let errors = scope.spawn(|| stderr.map_or(Ok(String::new()), io::read_to_string));
        let ended = poll::until("the program ends", patience, || Ok(child.0.try_wait()?));
        if ended.is_err() {
            // Closes the pipes that the threads read.
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

/// A child process that is killed when this value is dropped.
#[derive(Debug)]
pub struct Guard(pub(super) Child);

impl Guard {
    /// Starts a program that also dies with this process.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        // SAFETY: between fork and exec only a system call is made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Ok(Self(
            command
                .spawn()
                .with_context(|| format!("starting {}", command.get_program().display()))?,
        ))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, by: Signal) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), by);
        let _ = poll::until("the program ends", PATIENCE, || Ok(self.0.try_wait()?));
    }

    pub(super) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}
