//! The time up to which everything is recorded, stored in the state directory. Traffic between the
//! end of one run, however it ended, and the start of the next is reported as missing.

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
};

use crate::{
    linux::access::Access,
    record::Mark,
    worker::{Deadline, Worker},
};

/// File in the state directory. It contains UNIX seconds as text.
const FILE: &str = "recorded-until";

/// A message to the thread.
#[derive(Debug)]
enum Note {
    /// A window was closed. UNIX seconds of its end.
    Closed(i64),
    /// The outputs are done with the window of this number.
    Done(u64),
    /// No more messages follow, even if an output hangs and holds a mark.
    End,
}

/// Stores the end of the last window that all outputs are done with. A thread of its own writes it,
/// so that no other thread waits for a disk.
#[derive(Debug)]
pub(super) struct Watermark {
    recorded_until: Option<i64>,
    notes: Sender<Note>,
    closed: u64,
    thread: Worker<()>,
}

impl Watermark {
    /// Reads the watermark of the previous run, and starts the thread.
    pub(super) fn start(state_dir: &Path) -> io::Result<Self> {
        let (sender, notes) = channel();
        let file = state_dir.join(FILE);
        let recorded_until =
            fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let thread = Worker::spawn("watermark", move || follow(&notes, &file))?;
        Ok(Self { recorded_until, notes: sender, closed: 0, thread })
    }

    /// End of the last window that the previous run recorded, in UNIX seconds; `None` if there is
    /// none.
    pub(super) const fn recorded_until(&self) -> Option<i64> {
        self.recorded_until
    }

    /// Creates the mark of a window that ended at `until`, in UNIX seconds. No record of the window
    /// may have reached an output yet.
    pub(super) fn mark(&mut self, until: i64) -> Mark {
        let (number, notes) = (self.closed, self.notes.clone());
        self.closed += 1;
        let _ = notes.send(Note::Closed(until));
        Mark::new(move || drop(notes.send(Note::Done(number))))
    }

    /// Waits until the last watermark is written.
    pub(super) fn finish(self, deadline: &Deadline) {
        let _ = self.notes.send(Note::End);
        if let Err(error) = self.thread.join(deadline) {
            tracing::warn!(%error, "the watermark may be outdated: the next start may report too long a gap");
        }
    }
}

fn follow(notes: &Receiver<Note>, file: &PathBuf) {
    let mut open = Open::default();
    let mut failed = false;
    for note in notes.iter().take_while(|note| !matches!(note, Note::End)) {
        let Some(until) = open.take(&note) else { continue };
        let new = file.with_extension("new");
        let written = Access::PRIVATE
            .rewrite_file(&new)
            .and_then(|mut out| writeln!(out, "{until}"))
            .and_then(|()| fs::rename(&new, file));
        match written {
            Ok(()) => failed = false,
            Err(error) if !failed => {
                tracing::warn!(
                    file = %file.display(), %error,
                    "the watermark cannot be written: the next start may report too long a gap"
                );
                failed = true;
            }
            Err(_) => {}
        }
    }
}

/// Closed windows that are not recorded yet, or follow one that is not, in their order.
#[derive(Debug, Default)]
struct Open {
    /// Number of the first window.
    first: u64,
    /// End of each window; true if the outputs are done with it.
    windows: VecDeque<(i64, bool)>,
}

impl Open {
    /// Handles a message. Returns the time up to which everything is recorded, if it has changed.
    fn take(&mut self, note: &Note) -> Option<i64> {
        match note {
            Note::Closed(until) => self.windows.push_back((*until, false)),
            Note::Done(number) => {
                let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
                self.windows.get_mut(place)?.1 = true;
            }
            Note::End => {}
        }
        let mut recorded = None;
        while let Some((until, true)) = self.windows.front() {
            recorded = Some(*until);
            self.windows.pop_front();
            self.first += 1;
        }
        recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_once_all_before_it_are_recorded() {
        let mut open = Open::default();
        for until in [10, 20, 30] {
            assert_eq!(open.take(&Note::Closed(until)), None);
        }
        assert_eq!(open.take(&Note::Done(1)), None);
        assert_eq!(open.take(&Note::Done(0)), Some(20));
        assert_eq!(open.take(&Note::Done(2)), Some(30));
        // The clock was set back.
        assert_eq!(open.take(&Note::Closed(25)), None);
        assert_eq!(open.take(&Note::Done(3)), Some(25));
    }

    #[test]
    fn the_next_run_reads_what_the_last_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut watermark = Watermark::start(folder.path()).unwrap();
        assert_eq!(watermark.recorded_until(), None);
        let (mark, later) = (watermark.mark(1_700_000_000), watermark.mark(1_700_000_060));
        drop((mark.clone(), mark));
        drop(later);
        watermark.finish(&Deadline::never());
        assert_eq!(Watermark::start(folder.path()).unwrap().recorded_until(), Some(1_700_000_060));
        // An output that hangs holds the mark of the last window.
        let mut watermark = Watermark::start(folder.path()).unwrap();
        let (done, stuck) = (watermark.mark(1_700_000_120), watermark.mark(1_700_000_180));
        drop(done);
        watermark.finish(&Deadline::never());
        drop(stuck);
        assert_eq!(Watermark::start(folder.path()).unwrap().recorded_until(), Some(1_700_000_120));
        fs::write(folder.path().join(FILE), "no time").unwrap();
        assert_eq!(Watermark::start(folder.path()).unwrap().recorded_until(), None);
    }
}
