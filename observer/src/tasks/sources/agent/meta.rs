//! The meta pages of a bolt database, which name its newest state.

use std::{fs::File, hash::Hasher as _, io, os::unix::fs::FileExt};

use fnv::FnvHasher;

/// Error of reading a database.
#[derive(Debug, thiserror::Error)]
pub(super) enum BoltError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no bolt database of version 2")]
    Format,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("it was written all the time")]
    Busy,
}

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
/// Possible page sizes on Linux, in bytes.
const PAGE_SIZES: [u64; 3] = [4096, 16_384, 65_536];
pub(super) const PAGE_HEADER: usize = 16;
const META: usize = 64;

/// A meta page.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) page_size: u64,
    pub(super) root: u64,
    /// Number of the first page that was never used.
    pub(super) end: u64,
    pub(super) transaction: u64,
}

impl Meta {
    pub(super) fn newest(file: &File) -> Result<Self, BoltError> {
        // The first page may be half written. The second is then searched at every possible page
        // size.
        let first = Self::read(file, 0)?.filter(|meta| PAGE_SIZES.contains(&meta.page_size));
        let sizes = first.map_or(PAGE_SIZES.to_vec(), |meta| vec![meta.page_size]);
        let mut newest = first;
        for size in sizes {
            if let Some(second) = Self::read(file, size)?.filter(|meta| meta.page_size == size)
                && newest.is_none_or(|first| first.transaction < second.transaction)
            {
                newest = Some(second);
            }
        }
        newest.ok_or(BoltError::Format)
    }

    /// The meta page at an offset; `None` unless it is complete and its checksum is valid.
    fn read(file: &File, offset: u64) -> Result<Option<Self>, BoltError> {
        let mut bytes = [0; META];
        match file.read_exact_at(&mut bytes, offset + PAGE_HEADER as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let (Some(magic), Some(version), Some(page_size)) =
            (u32_at(&bytes, 0), u32_at(&bytes, 4), u32_at(&bytes, 8))
        else {
            return Ok(None);
        };
        let (Some(root), Some(end), Some(transaction), Some(checksum)) =
            (u64_at(&bytes, 16), u64_at(&bytes, 40), u64_at(&bytes, 48), u64_at(&bytes, 56))
        else {
            return Ok(None);
        };
        let whole = magic == MAGIC && version == VERSION && checksum == checksum_of(&bytes[..56]);
        Ok(whole.then_some(Self { page_size: page_size.into(), root, end, transaction }))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// FNV-1a, the checksum of meta pages.
fn checksum_of(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}
