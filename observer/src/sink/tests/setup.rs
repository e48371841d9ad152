use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use crate::{
    linux::access::Access,
    record::{Context, Format},
    sink::{Counts, Output, Partition, Recovered, SinkLoss, SinkObserver, SinkOptions, Sinks},
};

/// Everything that was reported to the observer.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) written: Counts,
    pub(super) lost: BTreeMap<&'static str, Counts>,
    pub(super) left_out: Counts,
    pub(super) failing: Vec<bool>,
    pub(super) files: u64,
}

#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Reports>);

impl Seen {
    pub(super) fn reports<T>(&self, read: impl FnOnce(&mut Reports) -> T) -> T {
        read(&mut self.0.lock().unwrap())
    }
}

impl SinkObserver for Seen {
    fn written(&self, _: Output, counts: &Counts) {
        self.reports(|reports| reports.written += *counts);
    }

    fn lost(&self, _: Output, counts: &Counts, reason: SinkLoss) {
        self.reports(|reports| *reports.lost.entry(reason.as_str()).or_default() += *counts);
    }

    fn left_out(&self, counts: &Counts) {
        self.reports(|reports| reports.left_out += *counts);
    }

    fn failing(&self, _: Output, failing: bool) {
        self.reports(|reports| reports.failing.push(failing));
    }

    fn finished(&self, _: Output) {
        self.reports(|reports| reports.files += 1);
    }

    fn recovered(&self, _: Recovered) {}
}

pub(super) struct Setup {
    pub(super) directory: TempDir,
    pub(super) seen: Arc<Seen>,
    pub(super) options: SinkOptions,
}

impl Setup {
    pub(super) fn new(outputs: &[Output]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SinkOptions {
            outputs: outputs.to_vec(),
            directory: directory.path().join("out"),
            access: Access::records(None),
            partition: Partition::Daily,
            flow_log_id: "fl-0123456789abcdef0".into(),
            file_size: 75_000_000,
            context: Arc::new(Context::new(Format::v2())),
            state: None,
            delivery: None,
        };
        Self { directory, seen: Arc::new(Seen::default()), options }
    }

    pub(super) fn start(&self) -> Sinks {
        Sinks::start(&self.options, Arc::<Seen>::clone(&self.seen)).unwrap()
    }

    /// Waits until this number of records is written or lost.
    pub(super) fn wait_for(&self, records: u64) {
        for _ in 0..1000 {
            let reports = self.seen.reports(|reports| {
                reports.written.records() + reports.lost.values().map(Counts::records).sum::<u64>()
            });
            if reports >= records {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{:?}", self.seen);
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.directory.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}
