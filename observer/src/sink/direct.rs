//! Large writes, past the page cache.
//!
//! A page of the cache costs a host more than to make what is written there, the more so on a virtual machine that has
//! to be given the memory first, and it takes the place of a page of somebody's task. Records are written once and read
//! by nobody here, so most of them need no cache.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// What places on the disk and in memory are multiples of: a page, which is no less than the block of any disk.
pub(super) const BLOCK: usize = 4096;
/// Bytes that are worth waiting for the disk; fewer go through the cache.
const LEAST: usize = 64 << 10;
/// Bytes of one request, at most.
const MOST: usize = 4 << 20;

/// A second way into a file that is open.
#[derive(Debug)]
pub(super) struct Direct {
    /// None where the file system has no such way.
    file: Option<File>,
    /// For bytes that lie elsewhere in memory than on the disk.
    buffer: Vec<u8>,
}

impl Direct {
    /// The way into the file of this name.
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok();
        Self { file, buffer: Vec::new() }
    }

    /// Writes bytes at a place: whole blocks past the cache, what is before and behind them through `cached`.
    pub(super) fn write_all_at(&mut self, cached: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let before = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
        let Some((before, rest)) =
            bytes.split_at_checked(before).filter(|(_, rest)| self.file.is_some() && rest.len() >= LEAST)
        else {
            return cached.write_all_at(bytes, offset);
        };
        let (blocks, behind) = rest.split_at(rest.len() / BLOCK * BLOCK);
        cached.write_all_at(before, offset)?;
        let mut at = offset + before.len() as u64;
        for blocks in blocks.chunks(MOST) {
            let written = self.write_blocks(blocks, at)?;
            // All, or else what the disk did not take: whether it has room says the cache.
            cached.write_all_at(&blocks[written..], at + written as u64)?;
            at += blocks.len() as u64;
        }
        cached.write_all_at(behind, at)
    }

    /// Writes as many bytes as can be written in this way.
    fn write_blocks(&mut self, blocks: &[u8], offset: u64) -> io::Result<usize> {
        let Self { file: Some(file), buffer } = self else { return Ok(0) };
        let aligned = if blocks.as_ptr().addr().is_multiple_of(BLOCK) {
            blocks
        } else {
            // Made when it is first needed, which may be never.
            buffer.resize(buffer.len().max(blocks.len() + BLOCK), 0);
            let start = buffer.as_ptr().align_offset(BLOCK);
            let aligned = &mut buffer[start..start + blocks.len()];
            aligned.copy_from_slice(blocks);
            aligned
        };
        match file.write_at(aligned, offset) {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            // Its blocks are larger, or it takes the flag and not the writes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.file = None;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn bytes_are_where_they_belong_however_they_get_there() {
        // Not in memory: that needs no way past it.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        let file = File::create_new(&path).unwrap();
        for direct in [true, false] {
            let mut way = Direct::open(&path);
            way.file = way.file.filter(|_| direct);
            let mut expected = Vec::new();
            let mut tail = 0;
            for (number, length) in
                [1, LEAST + 1, 4095, BLOCK, MOST + 7, 3 * MOST, LEAST, 0, 9].into_iter().enumerate()
            {
                // Each is written over the end of the one before, as the tail of a file is.
                let bytes: Vec<u8> = (0..length + tail).map(|at| (at % 251 + number) as u8).collect();
                expected.truncate(expected.len() - tail);
                way.write_all_at(&file, &bytes, expected.len() as u64).unwrap();
                expected.extend_from_slice(&bytes);
                assert!(fs::read(&path).unwrap() == expected, "{length} bytes, direct: {direct}");
                tail = length / 3;
            }
            file.set_len(0).unwrap();
        }
    }
}
