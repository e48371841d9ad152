//! The journal: everything that was drained and is not in a file yet.
//!
//! Owns: one file for each window in `STATE_DIR/journal`, and the thread that writes them. In: each
//! count that was added to a window, the state of the accounts, and the position up to which the
//! kernel's maps were read. Out: at the next start, the windows that the earlier run had not written
//! ([`Left`]).
//!
//! A tick appends one transaction, and only then clears the kernel's copy. So when the daemon is
//! killed, each count is either in the journal or still in the kernel: the position in the last
//! whole transaction tells which. A file is removed when all outputs have written its window.
//!
//! The files need not survive the host, because the kernel's maps do not either: they are never
//! synced, and the default state directory is on tmpfs.
//!
//! - `format`: frames, transactions and their encoding
//! - `subject`: interfaces and their identities as JSON
//! - `writer`: the thread
//! - `left`: the journal of an earlier run

mod format;
mod left;
mod subject;
#[cfg(test)]
mod tests;
mod writer;

pub use left::{Left, LeftInterface};
pub use writer::{Journal, JournalOptions, Progress};
