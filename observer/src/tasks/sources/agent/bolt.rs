//! Reads a bolt database while another process writes it.
//!
//! The writer holds its lock for its whole life, so this reader takes no lock. It uses the newer of
//! the two meta pages whose checksum is valid. Bolt never writes the pages of a transaction in
//! place, and reuses them no earlier than the transaction after the next. So if the newest
//! transaction is the same before and after a walk, the walk has seen one state of the database.
//! Otherwise the walk is repeated.
//!
//! The layout is bolt's version 2, in the byte order of the host. All offsets are checked against
//! the bounds of the file, so a damaged database gives an error and never a panic.

use std::{fs::File, os::unix::fs::FileExt};

use super::meta::{BoltError, Meta, PAGE_HEADER, u16_at, u32_at, u64_at};

/// Pairs of key and value in a bucket.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

const BUCKET_HEADER: usize = 16;
const ELEMENT: usize = 16;
/// Page flags.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Element flag: the value is a bucket.
const IS_BUCKET: u32 = 1;
/// Limits far above the size of an agent's database: depth of a tree, bytes read, attempts.
const MAX_DEPTH: u32 = 16;
const MAX_BYTES: usize = 256 << 20;
const ATTEMPTS: u32 = 20;

/// Reads the pairs of top-level buckets. A bucket that does not exist has no pairs.
pub(super) fn read<const N: usize>(
    file: &File,
    buckets: [&str; N],
) -> Result<[Pairs; N], BoltError> {
    for _ in 0..ATTEMPTS {
        let meta = Meta::newest(file)?;
        let mut walk = Walk { file, meta, bytes: 0 };
        let found = walk.buckets(buckets);
        // Checked before errors: a page that was reused during the walk may have caused one.
        if Meta::newest(file)?.transaction == meta.transaction {
            return found;
        }
    }
    Err(BoltError::Busy)
}

/// A pass over the trees of a database.
struct Walk<'a> {
    file: &'a File,
    meta: Meta,
    bytes: usize,
}

impl Walk<'_> {
    fn buckets<const N: usize>(&mut self, names: [&str; N]) -> Result<[Pairs; N], BoltError> {
        let mut top = Vec::new();
        self.tree(self.meta.root, 0, true, &mut top)?;
        let mut found = [const { Pairs::new() }; N];
        for (name, pairs) in names.iter().zip(&mut found) {
            let Some((_, header)) = top.iter().find(|(key, _)| key == name.as_bytes()) else {
                continue;
            };
            match u64_at(header, 0).ok_or(BoltError::Damaged("a bucket is cut short"))? {
                // A small bucket is stored inline, after its header.
                0 => {
                    let page = header.get(BUCKET_HEADER..).unwrap_or_default().to_vec();
                    self.page(&page, 0, false, pairs)?;
                }
                root => self.tree(root, 0, false, pairs)?,
            }
        }
        Ok(found)
    }

    /// Collects the pairs below a page: values, or headers of buckets if `buckets` is true.
    fn tree(
        &mut self,
        number: u64,
        depth: u32,
        buckets: bool,
        pairs: &mut Pairs,
    ) -> Result<(), BoltError> {
        let page = self.read(number)?;
        self.page(&page, depth, buckets, pairs)
    }

    fn page(
        &mut self,
        page: &[u8],
        depth: u32,
        buckets: bool,
        pairs: &mut Pairs,
    ) -> Result<(), BoltError> {
        if depth > MAX_DEPTH {
            return Err(BoltError::Damaged("its tree is too deep"));
        }
        let (Some(flags), Some(count)) = (u16_at(page, 8), u16_at(page, 10)) else {
            return Err(BoltError::Damaged("a page is cut short"));
        };
        for number in 0..usize::from(count) {
            let at = PAGE_HEADER + number * ELEMENT;
            let element = page.get(at..).ok_or(BoltError::Damaged("a page is cut short"))?;
            match flags {
                BRANCH => {
                    let child =
                        u64_at(element, 8).ok_or(BoltError::Damaged("a page is cut short"))?;
                    self.tree(child, depth + 1, buckets, pairs)?;
                }
                LEAF => {
                    let (kind, key, value) =
                        leaf(element).ok_or(BoltError::Damaged("a value leaves its page"))?;
                    if (kind & IS_BUCKET != 0) == buckets {
                        pairs.push((key.to_vec(), value.to_vec()));
                    }
                }
                _ => return Err(BoltError::Damaged("a page is of a wrong kind")),
            }
        }
        Ok(())
    }

    /// Reads a page and its overflow pages.
    fn read(&mut self, number: u64) -> Result<Vec<u8>, BoltError> {
        let Meta { page_size, end, .. } = self.meta;
        // Pages 0 and 1 are meta pages.
        if number < 2 || number >= end {
            return Err(BoltError::Damaged("a page is out of range"));
        }
        let offset =
            number.checked_mul(page_size).ok_or(BoltError::Damaged("a page is out of range"))?;
        let mut header = [0; PAGE_HEADER];
        self.file.read_exact_at(&mut header, offset)?;
        if u64_at(&header, 0) != Some(number) {
            return Err(BoltError::Damaged("a page is another one"));
        }
        let overflow = u64::from(u32_at(&header, 12).unwrap_or(0));
        if overflow >= end - number {
            return Err(BoltError::Damaged("a page is out of range"));
        }
        let len = ((overflow + 1) * page_size) as usize;
        self.bytes += len;
        if self.bytes > MAX_BYTES {
            return Err(BoltError::Damaged("it is larger than an agent's"));
        }
        let mut page = vec![0; len];
        self.file.read_exact_at(&mut page, offset)?;
        Ok(page)
    }
}

/// Flags, key and value of a leaf element at the start of the slice.
fn leaf(element: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let word = |at| u32_at(element, at).map(|word| word as usize);
    let (position, key, value) = (word(4)?, word(8)?, word(12)?);
    let key_end = position.checked_add(key)?;
    let value_end = key_end.checked_add(value)?;
    Some((u32_at(element, 0)?, element.get(position..key_end)?, element.get(key_end..value_end)?))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::fs::FileExt as _,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use flate2::read::GzDecoder;
    use nut::DBBuilder;

    use super::*;

    /// 120 tasks, one of several pages, and a few metadata, each stored by its own transaction;
    /// written by the Go implementation that agents use.
    const BBOLT: &[u8] = include_bytes!("testdata/bbolt-1.3.6.db.gz");

    fn bbolt() -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(BBOLT).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn put(path: &Path, pairs: &[(&str, String)]) {
        let mut db = DBBuilder::new(path).build().unwrap();
        let mut transaction = db.begin_rw_tx().unwrap();
        {
            let mut bucket = transaction.create_bucket_if_not_exists(b"tasks").unwrap();
            for (key, value) in pairs {
                bucket.put(key.as_bytes(), value.clone().into_bytes()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    #[test]
    fn a_database_of_bbolt_is_read() {
        let [tasks, metadata, none] = read(&file(&bbolt()), ["tasks", "metadata", "none"]).unwrap();
        assert_eq!(tasks.len(), 120);
        assert!(tasks.is_sorted());
        assert!(tasks.iter().all(|(key, value)| {
            String::from_utf8_lossy(value).contains(str::from_utf8(key).unwrap())
        }));
        assert!(tasks[5].1.len() > 20_000, "a value of several pages");
        assert_eq!(metadata.len(), 4);
        assert_eq!(metadata[0], (b"agent-version".to_vec(), b"\"1.105.1\"".to_vec()));
        assert_eq!(none, []);
    }

    #[test]
    fn a_half_written_meta_page_leaves_the_other_one() {
        for (meta, tasks) in [(0, 120), (1, 120)] {
            let mut bytes = bbolt();
            bytes[meta * 4096 + PAGE_HEADER + 20] ^= 1;
            let [found] = read(&file(&bytes), ["tasks"]).unwrap();
            assert_eq!(found.len(), tasks, "without meta page {meta}");
        }
    }

    #[test]
    fn another_format_is_an_error() {
        for bytes in [&b""[..], b"{}", &vec![0; 20_000]] {
            assert!(matches!(read(&file(bytes), ["tasks"]), Err(BoltError::Format)));
        }
        let mut other = bbolt();
        for meta in [0, 4096] {
            other[meta + PAGE_HEADER + 4] = 3;
        }
        assert!(
            matches!(read(&file(&other), ["tasks"]), Err(BoltError::Format)),
            "another version"
        );
    }

    #[test]
    fn damage_is_an_error_or_unnoticed_and_never_a_panic() {
        let whole = bbolt();
        let expected = read(&file(&whole), ["tasks", "metadata"]).unwrap();
        let mut noise = 1_u64;
        for round in 0..3000 {
            // xorshift: the same damage in every run
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            let mut bytes = whole.clone();
            let at = (noise as usize) % bytes.len();
            bytes[at] ^= (noise >> 40) as u8 | 1;
            if round % 5 == 0 {
                bytes.truncate((noise >> 20) as usize % bytes.len());
            }
            // Values have no checksum: damage may change them, but not their number and bounds.
            if let Ok([tasks, metadata]) = read(&file(&bytes), ["tasks", "metadata"]) {
                assert!(
                    tasks.len() <= expected[0].len() + 1 && metadata.len() <= expected[1].len() + 1
                );
            }
        }
    }

    #[test]
    fn a_walk_during_writes_sees_one_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.db");
        let of_round = |round: u32| {
            // Long enough that pages split, overflow and are used again.
            let value = format!("{round:08}").repeat(1 + (round as usize * 37) % 900);
            (0..40).map(|key| (format!("task-{key:02}"), value.clone())).collect::<Vec<_>>()
        };
        let write = |round| {
            let pairs = of_round(round);
            put(
                &path,
                &pairs.iter().map(|(key, value)| (key.as_str(), value.clone())).collect::<Vec<_>>(),
            );
        };
        write(0);
        let file = File::open(&path).unwrap();
        let done = AtomicBool::new(false);
        let (mut seen, mut last) = (0, String::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..400 {
                    write(round);
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let tasks = match read(&file, ["tasks"]) {
                    Ok([tasks]) => tasks,
                    Err(BoltError::Busy) => continue,
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(tasks.len(), 40);
                assert!(
                    tasks.iter().all(|(_, value)| *value == tasks[0].1),
                    "values of one transaction"
                );
                let round = String::from_utf8_lossy(&tasks[0].1[..8]).into_owned();
                assert!(round >= last, "{round} after {last}");
                last = round;
                seen += 1;
            }
        });
        assert!(seen > 0);
        let [tasks] = read(&file, ["tasks"]).unwrap();
        assert_eq!(tasks[0].1[..8], *b"00000399");
    }

    #[test]
    fn a_writers_lock_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.db");
        put(&path, &[("a", "1".into())]);
        let _writer = DBBuilder::new(&path).build().unwrap();
        let [tasks] = read(&File::open(&path).unwrap(), ["tasks"]).unwrap();
        assert_eq!(tasks, [(b"a".to_vec(), b"1".to_vec())]);
    }
}
