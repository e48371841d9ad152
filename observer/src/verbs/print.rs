use std::io::{self, Write as _};

use crate::failure::Failure;

/// Writes to standard output. It is not an error if the reader closes its end early.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::during("writing to standard output", error))
        }
        _ => Ok(()),
    }
}
