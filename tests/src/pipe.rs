//! A pipe that is full from the start and is not read until a scenario does.

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

/// Its content: empty lines, which are easily told from others.
const FILLER: [u8; 4096] = [b'\n'; 4096];

/// The reading end of a full pipe.
#[derive(Debug)]
pub struct FullPipe(File);

impl FullPipe {
    /// Creates a pipe; returns its reading end and the writing end for a daemon.
    pub fn new() -> Result<(Self, OwnedFd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let mut write = File::from(write);
        // The flag belongs to the open file, so a child that inherits it would see it too.
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let full = loop {
            if let Err(error) = write.write(&FILLER) {
                break error;
            }
        };
        anyhow::ensure!(
            full.raw_os_error() == Some(Errno::EAGAIN as i32),
            "filling a pipe: {full}"
        );
        fcntl(&write, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok((Self(File::from(read)), write.into()))
    }

    /// Reads until every writer has closed the pipe, on a thread of its own.
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
    /// The text behind the filler.
    pub fn text(self) -> Result<String> {
        let text = self.0.join().map_err(|_| anyhow!("reading a pipe panicked"))?;
        text.context("reading a pipe")
    }
}
