//! Large writes that bypass the page cache (`O_DIRECT`).
//!
//! Filling a page of the cache costs more CPU time than producing its content, above all on a
//! virtual machine that has to be given the memory first, and it displaces pages of the host's
//! tasks. The daemon never reads records back, so most of them need no cache.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Alignment of file offsets and of memory for direct writes, in bytes: one page, at least the
/// block size of any disk.
pub(super) const BLOCK: usize = 4096;
/// Smallest direct write, in bytes. Smaller ones go through the page cache, because waiting for the
/// disk costs more.
const MIN_DIRECT: usize = 64 << 10;
/// Largest direct write, in bytes.
const MAX_WRITE: usize = 4 << 20;

/// A second descriptor of an open file, for direct writes.
#[derive(Debug)]
pub(super) struct Direct {
    /// `None` if the file system does not support direct writes.
    file: Option<File>,
    /// Holds data whose address in memory is not aligned like its offset in the file.
    buffer: Vec<u8>,
}

impl Direct {
    /// Opens the file of this name.
    pub(super) fn open(path: &Path) -> Self {
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok();
        Self { file, buffer: Vec::new() }
    }

    /// Writes `bytes` at `offset`: whole blocks directly, the unaligned bytes before and after them
    /// through `cached`.
    pub(super) fn write_all_at(
        &mut self,
        cached: &File,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let before = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
        let Some((before, rest)) = bytes
            .split_at_checked(before)
            .filter(|(_, rest)| self.file.is_some() && rest.len() >= MIN_DIRECT)
        else {
            return cached.write_all_at(bytes, offset);
        };
        let (blocks, behind) = rest.split_at(rest.len() / BLOCK * BLOCK);
        cached.write_all_at(before, offset)?;
        let mut at = offset + before.len() as u64;
        for blocks in blocks.chunks(MAX_WRITE) {
            let written = self.write_blocks(blocks, at)?;
            // A direct write may be short. The cached write completes it, or reports that the disk
            // is full.
            cached.write_all_at(&blocks[written..], at + written as u64)?;
            at += blocks.len() as u64;
        }
        cached.write_all_at(behind, at)
    }

    /// Writes blocks directly, and returns the number of bytes written.
    fn write_blocks(&mut self, blocks: &[u8], offset: u64) -> io::Result<usize> {
        let Self { file: Some(file), buffer } = self else { return Ok(0) };
        let aligned = if blocks.as_ptr().addr().is_multiple_of(BLOCK) {
            blocks
        } else {
            // Allocated on first use; most outputs never need it.
            buffer.resize(buffer.len().max(blocks.len() + BLOCK), 0);
            let start = buffer.as_ptr().align_offset(BLOCK);
            let aligned = &mut buffer[start..start + blocks.len()];
            aligned.copy_from_slice(blocks);
            aligned
        };
        match file.write_at(aligned, offset) {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            // The disk has larger blocks, or the file system accepts the flag but not the writes.
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
    fn direct_and_cached_writes_give_the_same_file() {
        // Not on tmpfs, which does not support direct writes.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        let file = File::create_new(&path).unwrap();
        for direct in [true, false] {
            let mut way = Direct::open(&path);
            way.file = way.file.filter(|_| direct);
            let mut expected = Vec::new();
            let mut tail = 0;
            for (number, length) in
                [1, MIN_DIRECT + 1, 4095, BLOCK, MAX_WRITE + 7, 3 * MAX_WRITE, MIN_DIRECT, 0, 9]
                    .into_iter()
                    .enumerate()
            {
                // Each write begins before the end of the previous one, as with the tail of a file.
                let bytes: Vec<u8> =
                    (0..length + tail).map(|at| (at % 251 + number) as u8).collect();
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
