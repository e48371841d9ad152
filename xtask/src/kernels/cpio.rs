//! Archives in the kernel's initramfs format (`cpio -H newc`,
//! Documentation/driver-api/early-userspace).

use std::io::{self, Write};

/// Six bytes of magic and thirteen numbers of eight digits.
const HEADER: usize = 6 + 13 * 8;
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written. All entries belong to root.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, inode: 0 }
    }

    /// Adds a folder; its parent must have been added before.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, FOLDER, &[])
    }

    /// Adds an executable file.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.entry(path, PROGRAM, content)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, &[])?;
        Ok(self.to)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        self.inode += 1;
        let length = |length: usize| {
            u32::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
        };
        let (size, name) = (length(content.len())?, length(path.len() + 1)?);
        let links = 1;
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0];
        write!(self.to, "070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(path.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(HEADER + path.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    /// Pads names and contents to multiples of four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_on_a_multiple_of_four() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/etc").unwrap();
        archive.file("/etc/x", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        let at = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
        assert_eq!(at(b"etc\0"), HEADER);
        assert_eq!(at(b"hello") % 4, 0);
        assert_eq!(&bytes[at(b"TRAILER!!!") - HEADER..][..6], b"070701");
        assert_eq!(&bytes[HEADER + 4 + 2..][..6], b"070701", "the header behind a padded name");
    }
}
