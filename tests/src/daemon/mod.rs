//! The daemon under test: set up for one scenario, started, queried, stopped.
//!
//! Owns: the child process and its end. In: settings, and a [`Lab`](crate::lab::Lab) for its files.
//! Out: its HTTP pages, and the records, the output and the exit code that it leaves behind.

mod binary;
mod process;
mod running;
mod setup;

pub use binary::{binary, command, free_address};
pub use process::{Exit, Guard, run_to_end};
pub use running::{Daemon, FrozenThread, Stopped};
pub use setup::{By, Setup};
