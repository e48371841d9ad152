//! A guest from boot to power-off: shows its output and decides if it passed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    emulator::{Accelerator, Emulator},
    image::Task,
    kernel::Kernel,
    report::{MARK, Report},
};
use crate::{process, skips::Skip};

/// Longest silence of a guest. No test waits this long, not even with a fivefold timeout.
const SILENCE: Duration = Duration::from_mins(5);
/// Longest boot with KVM. A kernel boots within a second or not at all: nested virtual machines may
/// offer a KVM that does not work.
const AWAKE: Duration = Duration::from_secs(5);
/// Attempts to boot a kernel: an emulated processor sometimes fails in code that the kernel patches
/// while it boots.
const BOOTS: u32 = 3;
/// Lines of the kernel's messages that are shown after a failure.
const TAIL: usize = 40;

/// A guest that is not started yet.
#[derive(Debug)]
pub(super) struct Guest {
    qemu: Command,
    /// File of the kernel's messages.
    console: PathBuf,
}

/// True if KVM runs guests here, found by booting one.
pub(super) fn kvm_works(emulator: &Emulator, kernel: &Kernel, initramfs: &Path) -> Result<bool> {
    if !Path::new("/dev/kvm").exists() {
        return Ok(false);
    }
    let mut guest = Guest::new(emulator, kernel, initramfs, Accelerator::Kvm)?;
    // QEMU prints the reason, which is not an error here.
    guest.qemu.stderr(Stdio::null());
    let (running, output) = guest.start()?;
    let lines = lines(output);
    let awake = lines.recv_timeout(AWAKE).is_ok_and(|line| line.starts_with(MARK));
    drop(running);
    Ok(awake)
}

/// A QEMU process that is killed when this value is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest {
    pub(super) fn new(
        emulator: &Emulator,
        kernel: &Kernel,
        initramfs: &Path,
        accelerator: Accelerator,
    ) -> Result<Self> {
        let mut qemu = emulator.command(kernel, initramfs, accelerator)?;
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self { qemu, console: kernel.console() })
    }

    fn start(&mut self) -> Result<(Running, ChildStdout)> {
        let child = self.qemu.spawn().map_err(|error| process::cannot_start(&self.qemu, &error))?;
        let mut running = Running(child);
        let output = running.0.stdout.take().context("QEMU has no output")?;
        Ok((running, output))
    }

    /// Runs the guest to its end. `version` prefixes its output and its skips.
    pub(super) fn run(mut self, tasks: &[Task], version: &str) -> (Result<()>, Vec<Skip>) {
        let mut skips = Vec::new();
        for _ in 1..BOOTS {
            let (report, result) = self.watch(tasks, version, &mut skips);
            if result.is_ok() || report.awake {
                return (result, skips);
            }
            eprintln!("    Linux {version} did not come up: once more");
        }
        let (_, result) = self.watch(tasks, version, &mut skips);
        (result, skips)
    }

    fn watch(
        &mut self,
        tasks: &[Task],
        version: &str,
        skips: &mut Vec<Skip>,
    ) -> (Report, Result<()>) {
        let mut report = Report::default();
        let (running, output) = match self.start() {
            Ok(started) => started,
            Err(error) => return (report, Err(error)),
        };
        let lines = lines(output);
        let ended = loop {
            match lines.recv_timeout(SILENCE) {
                Ok(line) => {
                    if report.take(&line) {
                        println!("{version:<6} | {line}");
                    }
                    skips.extend(Skip::in_line(&line).map(|skip| skip.on(version)));
                }
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        drop(running);
        let judged = report.judge(tasks);
        let judged =
            if ended { judged } else { judged.context(format!("{SILENCE:?} without a word")) };
        if judged.is_err() {
            self.show_console();
        }
        (report, judged)
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

/// The lines of a stream, as a channel that can be read with a timeout.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            // A serial line ends lines with a carriage return.
            let line =
                String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
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
