//! One line for each step of set-up and build: its number, name, duration and progress.
//!
//! ```text
//! [2/3] compiling the daemon … 214 of 290 units, 1 min 10 s     on a terminal, drawn anew each second
//! [2/3] compiling the daemon: 290 units, 1 min 32 s             when it has ended, and elsewhere
//! ```
//!
//! The output of a step's commands is kept, and shown only if one of them fails or warns.

use std::{
    io::{self, BufReader, IsTerminal as _, Read, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::process;

/// Interval between updates on a terminal.
const REDRAW: Duration = Duration::from_millis(500);
/// Interval between updates elsewhere, such as in a CI log.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// Longest line, in columns. A longer one would wrap on a narrow terminal and could not be
/// overwritten.
const WIDTH: usize = 79;

static BEGUN: AtomicUsize = AtomicUsize::new(0);
static PLANNED: AtomicUsize = AtomicUsize::new(0);

/// Announces the number of steps that follow.
pub(crate) fn plan(steps: usize) {
    BEGUN.store(0, Ordering::Relaxed);
    PLANNED.store(steps, Ordering::Relaxed);
}

/// A step in progress.
#[derive(Debug)]
#[must_use]
pub(crate) struct Step {
    shared: Arc<Shared>,
    drawing: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// `[2/3] compiling the daemon`.
    name: String,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    detail: String,
    silent: bool,
    ended: bool,
}

impl Step {
    pub(crate) fn begin(name: &str) -> Self {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed) + 1;
        let planned = PLANNED.load(Ordering::Relaxed).max(number);
        let shared = Arc::new(Shared {
            name: format!("[{number}/{planned}] {name}"),
            began: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let drawn = Arc::clone(&shared);
        let drawing = Some(thread::spawn(move || drawn.draw(io::stdout().is_terminal())));
        Self { shared, drawing }
    }

    /// Sets the progress text of the step.
    pub(crate) fn detail(&self, detail: impl Into<String>) {
        self.shared.state().detail = detail.into();
    }

    /// Pauses drawing while `talk` uses the terminal, for example for a password.
    pub(crate) fn aside(&self, talk: impl FnOnce() -> Result<()>) -> Result<()> {
        self.shared.state().silent = true;
        let result = talk();
        self.shared.state().silent = false;
        result
    }

    /// Runs a command of this step; its output appears only if it fails.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        self.capture(command).map(drop)
    }

    /// Runs cargo, shows its progress, and shows its warnings.
    pub(crate) fn cargo(&self, command: &mut Command) -> Result<()> {
        command.env("CARGO_TERM_PROGRESS_WHEN", "always").env("CARGO_TERM_PROGRESS_WIDTH", "100");
        let output = self.capture(command.env("CARGO_TERM_COLOR", "never"))?;
        let warnings: Vec<&str> = output.lines().filter(|line| !is_status(line)).collect();
        if !warnings.iter().all(|line| line.trim().is_empty()) {
            print(&warnings.join("\n"));
        }
        Ok(())
    }

    fn capture(&self, command: &mut Command) -> Result<String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| process::cannot_start(command, &error))?;
        let output = Mutex::new(String::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| stdout.map(|from| self.keep(from, &output)));
            scope.spawn(|| stderr.map(|from| self.keep(from, &output)));
        });
        let status = child.wait().context("a command could not be waited for")?;
        let output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
        process::succeeded(command, status).inspect_err(|_| print(output.trim_end()))?;
        Ok(output)
    }

    /// Keeps lines of output, except cargo's progress lines.
    fn keep(&self, from: impl Read, output: &Mutex<String>) {
        let mut line = Vec::new();
        for byte in BufReader::new(from).bytes().map_while(Result::ok) {
            if !matches!(byte, b'\n' | b'\r') {
                line.push(byte);
                continue;
            }
            let text = String::from_utf8_lossy(&line).replace("\x1b[K", "");
            if let Some(units) = units(&text) {
                self.detail(units);
            } else if !text.trim().is_empty() || byte == b'\n' {
                let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                output.push_str(&text);
                output.push('\n');
            }
            line.clear();
        }
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(&String::from_utf8_lossy(&line));
    }

    /// Prints the step's one line.
    pub(crate) fn end(mut self) {
        self.stop();
        print(&self.shared.ended());
    }

    fn stop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
        if let Some(drawing) = self.drawing.take() {
            // The drawing thread returns nothing.
            let _ = drawing.join();
        }
    }
}

impl Drop for Step {
    /// Ends the line of a step that failed. The error's text follows it.
    fn drop(&mut self) {
        if self.drawing.is_some() {
            self.stop();
            print(&format!(
                "{}: failed after {}",
                self.shared.name,
                lasted(self.shared.began.elapsed())
            ));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, terminal: bool) {
        let pause = if terminal { REDRAW } else { HEARTBEAT };
        let mut state = self.state();
        while !state.ended {
            if terminal && !state.silent {
                print!("\r{}\x1b[K", self.running(&state.detail));
                // A closed terminal is no reason to stop.
                let _ = io::stdout().flush();
            }
            let waited = self.changed.wait_timeout_while(state, pause, |state| !state.ended);
            let timed_out;
            (state, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            if timed_out.timed_out() && !terminal {
                println!("{}", self.running(&state.detail));
            }
        }
    }

    fn running(&self, detail: &str) -> String {
        let line = line(&self.name, " …", detail, self.began.elapsed());
        line.chars().take(WIDTH).collect()
    }

    fn ended(&self) -> String {
        // The finished line shows `290 units` instead of `290 of 290 units`.
        let detail = self.state().detail.rsplit(" of ").next().unwrap_or_default().to_owned();
        line(&self.name, ":", &detail, self.began.elapsed())
    }
}

/// Overwrites the line that was drawn last.
fn print(text: &str) {
    let clear = if io::stdout().is_terminal() { "\r\x1b[K" } else { "" };
    println!("{clear}{text}");
}

fn line(name: &str, sign: &str, detail: &str, time: Duration) -> String {
    let comma = if detail.is_empty() { "" } else { ", " };
    format!("{name}{sign} {detail}{comma}{}", lasted(time))
}

/// `214 of 290 units` of `Building [===>  ] 214/290: tokio, hyper`.
fn units(line: &str) -> Option<String> {
    let counts = line.trim_start().strip_prefix("Building [")?.split_once("] ")?.1;
    let (done, all) = counts.split(':').next()?.split_once('/')?;
    let all: usize = all.trim().parse().ok()?;
    let done: usize = done.trim().parse().ok()?;
    Some(format!("{done} of {all} units"))
}

/// True for cargo's status lines: a word right-aligned in twelve columns.
fn is_status(line: &str) -> bool {
    const WORDS: [&str; 13] = [
        "Updating",
        "Locking",
        "Adding",
        "Downloading",
        "Downloaded",
        "Compiling",
        "Checking",
        "Fresh",
        "Finished",
        "Blocking",
        "Executable",
        "Installing",
        "Building",
    ];
    let word = line.trim_start().split(' ').next().unwrap_or_default();
    line.starts_with(' ') && WORDS.contains(&word)
}

/// A duration in words, such as `1 min 10 s`.
pub(crate) fn lasted(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_of_cargo_is_read_and_all_else_is_not() {
        assert_eq!(
            units("    Building [====>    ] 214/290: tokio, hyper").as_deref(),
            Some("214 of 290 units")
        );
        assert_eq!(units("    Building [         ] 0/1").as_deref(), Some("0 of 1 units"));
        assert_eq!(units("   Compiling tokio v1.54.1"), None);
        assert_eq!(units("    Building [broken"), None);
    }

    #[test]
    fn a_warning_is_told_from_status_lines() {
        assert!(is_status("   Compiling tokio v1.54.1"));
        assert!(is_status("    Finished `release` profile [optimized] target(s) in 1s"));
        assert!(!is_status("warning: unused variable: `x`"));
        assert!(!is_status("  --> src/main.rs:1:1"));
    }

    #[test]
    fn output_is_kept_for_a_failure_and_progress_is_not() {
        let step = Step::begin("test");
        let script = "printf '   Compiling a\\n  Building [=> ] 3/20: b\\r\\033[Kerror: c\\n' >&2; echo d; exit 1";
        let error = step.run(Command::new("sh").args(["-c", script])).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
        let output =
            step.capture(Command::new("sh").args(["-c", &script.replace("exit 1", "")])).unwrap();
        let mut lines: Vec<_> = output.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["   Compiling a", "d", "error: c"]);
        assert_eq!(step.shared.state().detail, "3 of 20 units");
        step.end();
    }

    #[test]
    fn times_are_as_exact_as_they_are_long() {
        let check = |millis: u64, expected: &str| {
            assert_eq!(lasted(Duration::from_millis(millis)), expected);
        };
        check(1_234, "1.2 s");
        check(42_900, "42 s");
        check(70_000, "1 min 10 s");
    }

    #[test]
    fn the_line_of_a_step_names_what_is_known_and_no_more() {
        let ten = Duration::from_secs(10);
        assert_eq!(line("[1/2] x", " …", "3 of 20 units", ten), "[1/2] x … 3 of 20 units, 10 s");
        assert_eq!(line("[1/2] x", ":", "", ten), "[1/2] x: 10 s");
    }
}
