//! A guest from its start to its end: shows what it says, and judges it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{image::Task, report::Report};
use crate::{process, skips::Skip};

/// A guest that says nothing for so long hangs: no test takes nearly as long.
const SILENCE: Duration = Duration::from_secs(150);
/// Lines of the kernel's own messages that a person sees when something went wrong.
const TAIL: usize = 40;

/// A guest to be.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) qemu: Command,
    /// Where the kernel's own messages go.
    pub(super) console: PathBuf,
}

/// QEMU, which does not outlive this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest {
    /// Runs it to its end; its skips are told from others by `version`.
    pub(super) fn run(mut self, tasks: &[Task], version: &str, skips: &mut Vec<Skip>) -> Result<()> {
        self.qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = self.qemu.spawn().map_err(|error| process::cannot_start(&self.qemu, &error))?;
        let mut running = Running(child);
        let lines = lines(running.0.stdout.take().context("QEMU has no output")?);
        let mut report = Report::default();
        let ended = loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    if report.take(&line) {
                        println!("{line}");
                    }
                    skips.extend(Skip::in_line(&line).map(|skip| skip.on(version)));
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        drop(running);
        let judged = report.judge(tasks);
        let judged = if ended { judged } else { judged.context(format!("{SILENCE:?} without a word")) };
        if judged.is_err() {
            self.show_console();
        }
        judged
    }

    fn show_console(&self) {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("    the kernel's last words, of {}:", self.console.display());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            eprintln!("    {line}");
        }
    }
}

/// The lines of a stream, which can be waited for with patience that ends.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // A serial line ends lines in the way of teleprinters.
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            if to.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_serial_line_lose_their_carriage_returns() {
        let received: Vec<_> = lines(&b"@@@ done\r\nlast"[..]).iter().collect();
        assert_eq!(received, ["@@@ done", "last"]);
    }
}
