//! The verb `replay`.

use std::{
    io::{self, IsTerminal, Write as _},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    capture::{Capture, CaptureError},
    engine::Replay,
    options::Options,
    written::Written,
};
use crate::{
    failure::Failure,
    kernel::preflight,
    outputs,
    sink::{Output, SinkObserver, Sinks},
    tasks::{Identity, TasksFile},
};

impl From<CaptureError> for Failure {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Open { .. } | CaptureError::Foreign { .. } => Self::usage(error),
            CaptureError::Broken { .. } => Self::running(format!("{error} (what is before it is recorded)")),
        }
    }
}

/// Replays a capture. Prints the report on standard error.
///
/// # Errors
///
/// On wrong usage, an unsuitable host, a damaged capture, and records that cannot be written.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut capture = Capture::open(&options.file)?;
    let identity = identity(options)?;
    preflight::check()?;
    outputs::writable(&options.output.outputs)?;
    let stop = stop_signals(&options.file)?;
    let sink_options = outputs::sink_options(&options.output);
    let written = Arc::new(Written::by(sink_options.outputs[0]));
    let sinks = Sinks::start(&sink_options, Arc::clone(&written) as Arc<dyn SinkObserver>)
        .map_err(|error| Failure::during("starting the sinks", error))?;
    let mut replay = Replay::new(options, identity, sinks, capture.name())?;

    let progress = progress(&capture, options);
    let read = replay.read(&mut capture, &progress, &stop, &written);
    let finished = replay.finish(&capture, &written);
    progress.finish_and_clear();
    if let Err(failure @ (Failure::Usage(_) | Failure::Host(_))) = read {
        return Err(failure);
    }
    let (report, written) = finished?;
    let report = if options.json { report.to_json() + "\n" } else { report.to_string() };
    // The records are written, so a closed standard error is ignored.
    let _ = io::stderr().write_all(report.as_bytes());
    read.and(written)
}

/// Identity of the interface by the tasks file.
fn identity(options: &Options) -> Result<Arc<Identity>, Failure> {
    let file = options.tasks_file.as_deref().map(TasksFile::open).transpose()?;
    Ok(Arc::new(match (&file, options.local_mac) {
        (Some(file), Some(mac)) => file.identity(mac),
        _ => Identity::default(),
    }))
}

/// A flag that the first SIGINT or SIGTERM sets. The second one ends the process.
///
/// On standard input SIGINT does not set the flag: a terminal interrupts both ends of a pipe, so the capture ends by
/// itself and is read to its end.
fn stop_signals(file: &Path) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = if file == Path::new("-") { Arc::default() } else { Arc::clone(&stop) };
    for (signal, flag) in [(SIGINT, interrupted), (SIGTERM, Arc::clone(&stop))] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .and_then(|_| signal_hook::flag::register(signal, flag))
            .map_err(|error| Failure::during("listening to signals", error))?;
    }
    Ok(stop)
}

/// A progress bar on standard error; hidden if records go to a terminal.
fn progress(capture: &Capture, options: &Options) -> ProgressBar {
    let prints = options.output.outputs.formats.contains(&Output::Stdout) && io::stdout().is_terminal();
    let target = if prints { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(capture.size(), target);
    let template = if capture.size().is_some() {
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "{spinner} {bytes}, {bytes_per_sec}"
    };
    // The templates are valid; on an error the bar would only have the default style.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
