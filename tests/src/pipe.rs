//! A pipe that is full from the beginning, and that nobody reads until a scenario does.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::pipe2,
};

/// What it is full of: empty lines, which are easily told from others.
const FILLER: [u8; 4096] = [b'\n'; 4096];

/// The pipe, by the end that is read.
#[derive(Debug)]
pub struct FullPipe(File);

impl FullPipe {
    /// A pipe, and the end of it that a daemon is to write to.
    pub fn new() -> Result<(Self, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let mut write = File::from(write);
        // A flag of the pipe's end, which whoever inherits it has too.
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let full = loop {
            if let Err(error) = write.write(&FILLER) {
                break error;
            }
        };
        anyhow::ensure!(full.raw_os_error() == Some(Errno::EAGAIN as i32), "filling a pipe: {full}");
        fcntl(&write, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok((Self(File::from(read)), write.into()))
    }

    /// Reads all that comes until every other end is closed, on a thread of its own.
    pub fn read(mut self) -> Reading {
        Reading(thread::spawn(move || {
            let mut text = String::new();
            self.0.read_to_string(&mut text)?;
            Ok(text.trim_start_matches('\n').to_owned())
        }))
    }
}

/// A pipe that is being read.
#[derive(Debug)]
pub struct Reading(JoinHandle<std::io::Result<String>>);

impl Reading {
    /// What came behind the filler.
    pub fn text(self) -> Result<String> {
        let text = self.0.join().map_err(|_| anyhow!("reading a pipe panicked"))?;
        text.context("reading a pipe")
    }
}
