//! Log messages of the eBPF programs, by aya-log.

use std::{os::fd::AsFd, thread};

use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{KernelError, Programs};

/// Log level at which programs log packets that they cannot parse. At level 0 the verifier removes
/// the logging code.
pub const DEBUG: u8 = aya_log::Level::Debug as u8;

/// Starts a thread that logs the messages of the programs until the process ends.
pub fn start(programs: &mut Programs) -> Result<(), KernelError> {
    let failed =
        |error: std::io::Error| KernelError::call("reading the programs' diagnostics", error);
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
