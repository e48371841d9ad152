//! A file that is delivered in parts.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use observer_tests::{
    daemon::Daemon,
    lab::Lab,
    python::Python,
    store::{Store, Way},
};

use super::progress::{delivered, waiting};

/// A file of an earlier run that is too large for one request, and its store.
pub(super) struct Large {
    pub(super) store: Store,
    pub(super) way: Way,
    pub(super) file: PathBuf,
    pub(super) key: String,
    pub(super) content: Vec<u8>,
}

impl Large {
    pub(super) fn new(lab: &Lab, python: &Python) -> Result<Self> {
        let store = Store::start(python, &lab.path("moto"))?;
        let way = Way::to(store.address())?;
        let (file, key, content) = large_file(lab)?;
        Ok(Self { store, way, file, key, content })
    }

    /// Waits for delivery, and asserts that the store has one complete multipart object and that
    /// nothing is left elsewhere.
    pub(super) fn assert_delivered(self, lab: &Lab, daemon: Daemon) -> Result<()> {
        daemon
            .wait("it is delivered", |page| delivered(page) >= 1 && waiting(page) == Some(0.0))?;
        daemon.stop()?;
        let Self { store, file, key, content, .. } = self;
        let at = lab.path("large");
        let keys = store.download(&at)?;
        assert_eq!(keys.iter().filter(|it| **it == key).count(), 1, "{keys:?}");
        assert!(fs::read(at.join(&key))? == content, "the object is not the file");
        assert_eq!(store.parts(&key)?, Some(content.len().div_ceil(8 << 20)), "parts");
        assert_eq!(store.unfinished()?, 0, "uploads without an end");
        let folder = file.parent().context("a folder")?;
        let left: Vec<_> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
        assert_eq!(left, Vec::<std::ffi::OsString>::new(), "files on the disk");
        Ok(())
    }
}

/// Creates a large file; returns its path, its key and its contents.
fn large_file(lab: &Lab) -> Result<(PathBuf, String, Vec<u8>)> {
    const LINES: usize = 90_000;
    let folder =
        lab.path("daemon-out").join("AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/01/01");
    fs::create_dir_all(&folder)?;
    let name = "123456789012_vpcflowlogs_eu-west-1_fl-1234abcd_20260101T0000Z_0123abcd.jsonl";
    let mut content = String::new();
    for number in 0..LINES {
        let filler = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        writeln!(content, "{{\"version\":2,\"number\":{number},\"filler\":\"{filler:0200x}\"}}")?;
    }
    let file = folder.join(name);
    fs::write(&file, &content)?;
    let key = format!("fleet/AWSLogs/123456789012/vpcflowlogs/eu-west-1/2026/01/01/{name}");
    Ok((file, key, content.into_bytes()))
}
