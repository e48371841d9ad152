//! The programs' own diagnostics, by aya-log.

use std::{os::fd::AsFd, thread};

use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{KernelError, Programs};

/// Level of a load whose programs say what they cannot make sense of. At level 0 the verifier removes that code.
pub const DEBUG: u8 = aya_log::Level::Debug as u8;

/// Logs what the programs say, on a thread that ends with the process.
pub fn start(programs: &mut Programs) -> Result<(), KernelError> {
    let failed = |error: std::io::Error| KernelError::call("reading the programs' diagnostics", error);
    let mut logger =
        EbpfLogger::init(programs.ebpf()).map_err(|error| failed(std::io::Error::other(error)))?;
    thread::Builder::new()
        .name("diagnostics".into())
        .spawn(move || {
            loop {
                let mut ready = [PollFd::new(logger.as_fd(), PollFlags::POLLIN)];
                if poll(&mut ready, PollTimeout::NONE).is_ok() {
                    logger.flush();
                }
            }
        })
        .map_err(failed)?;
    Ok(())
}
