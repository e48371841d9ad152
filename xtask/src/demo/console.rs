//! Standard output of the demo.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result};

/// Prints the headline of an act.
pub(super) fn step(headline: &str) -> Result<()> {
    say(format_args!("==> {headline} …"))
}

/// Prints a line. A closed output is an error, so that the demo still removes everything in order.
pub(super) fn say(text: impl Display) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output is closed")
}
