//! Sinks, on directories that go, come back, and cannot be written.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use flate2::read::MultiGzDecoder;
use parquet::{
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field as Value,
};
use tempfile::TempDir;

use super::{Counts, Output, Partition, Recovered, SinkLoss, SinkObserver, SinkOptions, Sinks, lines::UNIT};
use crate::{
    flow::{Direction, Table, Window},
    record::{
        Batch, Context, Filter, Format, Status,
        examples::{self, ENI, PLAIN},
    },
    worker::Deadline,
};

/// The second minute of five.
const WINDOW: Window = Window { start: 1_700_000_160, end: 1_700_000_220 };

/// What the observer was told.
#[derive(Debug, Default)]
struct Told {
    written: Counts,
    lost: BTreeMap<&'static str, Counts>,
    left_out: Counts,
    failing: Vec<bool>,
    files: u64,
}

#[derive(Debug, Default)]
struct Seen(Mutex<Told>);

impl Seen {
    fn told<T>(&self, what: impl FnOnce(&mut Told) -> T) -> T {
        what(&mut self.0.lock().unwrap())
    }
}

impl SinkObserver for Seen {
    fn written(&self, _: Output, counts: &Counts) {
        self.told(|told| told.written += *counts);
    }

    fn lost(&self, _: Output, counts: &Counts, reason: SinkLoss) {
        self.told(|told| *told.lost.entry(reason.as_str()).or_default() += *counts);
    }

    fn left_out(&self, counts: &Counts) {
        self.told(|told| told.left_out += *counts);
    }

    fn failing(&self, _: Output, failing: bool) {
        self.told(|told| told.failing.push(failing));
    }

    fn finished(&self, _: Output) {
        self.told(|told| told.files += 1);
    }

    fn recovered(&self, _: Recovered) {}
}

struct Place {
    directory: TempDir,
    seen: Arc<Seen>,
    options: SinkOptions,
}

impl Place {
    fn new(outputs: &[Output]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = SinkOptions {
            outputs: outputs.to_vec(),
            directory: directory.path().join("out"),
            partition: Partition::Daily,
            flow_log_id: "fl-0123456789abcdef0".into(),
            file_size: 75_000_000,
            context: Arc::new(Context::new(Format::v2())),
            delivery: None,
        };
        Self { directory, seen: Arc::new(Seen::default()), options }
    }

    fn start(&self) -> Sinks {
        Sinks::start(&self.options, Arc::<Seen>::clone(&self.seen)).unwrap()
    }

    /// Waits until as many records as this were written or lost.
    fn wait_for(&self, records: u64) {
        for _ in 0..1000 {
            let told = self
                .seen
                .told(|told| told.written.records() + told.lost.values().map(Counts::records).sum::<u64>());
            if told >= records {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{:?}", self.seen);
    }

    fn files(&self) -> Vec<PathBuf> {
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

fn lines(file: &Path) -> Vec<String> {
    let mut text = String::new();
    let bytes = fs::read(file).unwrap();
    if file.extension().is_some_and(|ending| ending == "gz") {
        MultiGzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(bytes).unwrap();
    }
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

/// A window of as many flows, one after the other.
fn flows(window: Window, count: u32) -> Batch {
    let mut batch = Batch { subjects: examples::batch().subjects, ..Batch::new(window) };
    for number in 0..count {
        let ports = (number as u16, (number >> 16) as u16);
        let mut flow = examples::flow(ENI, Direction::Egress, 17, ("10.0.0.5", "192.0.2.7"), ports);
        flow.counters.first_ms = window.start * 1000;
        flow.counters.last_ms = window.start * 1000 + 999;
        batch.flows.add(&flow);
    }
    batch
}

fn after(window: Window, seconds: i64) -> Window {
    Window { start: window.start + seconds, end: window.end + seconds }
}

#[test]
fn every_output_holds_every_record_once_and_says_so() {
    let place = Place::new(&[Output::Jsonl, Output::Text]);
    let sinks = place.start();
    let records = place.options.context.clone();
    let expected = Counts::of(examples::batch().records(&records).map(|(_, record)| record));
    sinks.offer(examples::batch());
    sinks.finish(flows(after(WINDOW, 60), 5), &Deadline::never()).unwrap();
    let count = expected.records() as usize + 5;
    let files = place.files();
    for (ending, head) in [("jsonl", 0), ("gz", 1)] {
        let of_kind = files.iter().filter(|file| file.extension().is_some_and(|it| it == ending));
        let found: Vec<_> = of_kind.flat_map(|file| lines(file).split_off(head)).collect();
        assert_eq!(found.len(), count, "{ending}");
    }
    place.seen.told(|told| {
        assert_eq!(told.written.records() as usize, 2 * count);
        assert_eq!(told.written.with_status(Status::NoData), 2);
        assert_eq!(told.written.with_status(Status::SkipData), 2);
        assert!(told.lost.is_empty() && told.failing.is_empty());
        assert_eq!(told.files as usize, files.len());
    });
}

/// The values of all rows of Parquet files, as text has them.
fn parquet_rows(files: &[PathBuf]) -> Vec<String> {
    let mut rows = Vec::new();
    for file in files {
        let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            let words = row.get_column_iter().map(|(_, value)| match value {
                Value::Null => "-".to_owned(),
                Value::Str(text) => text.clone(),
                Value::Int(number) => number.to_string(),
                Value::Long(number) => number.to_string(),
                other => panic!("{other}"),
            });
            rows.push(words.collect::<Vec<_>>().join(" "));
        }
    }
    rows
}

#[test]
fn parquet_has_the_rows_of_text_in_every_format_and_after_every_unit() {
    for format in ["v2", "all", "${end} ${ecs-task-id} ${bytes}", "${log-status}"] {
        let mut place = Place::new(&[Output::Parquet, Output::Text]);
        place.options.context = Arc::new(examples::context(format.parse().unwrap()));
        let sinks = place.start();
        sinks.offer(examples::batch());
        sinks.offer(flows(WINDOW, 70_000));
        let mut after_all = examples::batch();
        after_all.window = after(WINDOW, 60);
        sinks.finish(after_all, &Deadline::never()).unwrap();
        let files = place.files();
        let of_kind = |ending: &str| -> Vec<PathBuf> {
            files.iter().filter(|file| file.to_string_lossy().ends_with(ending)).cloned().collect()
        };
        let mut text: Vec<_> = of_kind(".log.gz").iter().flat_map(|file| lines(file).split_off(1)).collect();
        let mut parquet = parquet_rows(&of_kind(".log.parquet"));
        text.sort();
        parquet.sort();
        assert_eq!(parquet.len(), text.len(), "{format}");
        assert!(parquet == text, "{format}");
    }
}

#[test]
fn what_the_user_wants_in_no_output_is_told_once() {
    let mut place = Place::new(&[Output::Jsonl, Output::Text]);
    let mut context = Context::new(Format::v2());
    context.filter = Filter::new(vec!["drop srcport=0-9".parse().unwrap()]);
    place.options.context = Arc::new(context);
    let sinks = place.start();
    sinks.offer(flows(WINDOW, 25));
    sinks.finish(flows(after(WINDOW, 60), 3), &Deadline::never()).unwrap();
    place.seen.told(|told| {
        assert_eq!(told.written.records(), 2 * 15);
        assert_eq!(told.left_out.records(), 10 + 3);
        assert!(told.lost.is_empty());
    });
}

#[test]
fn records_lie_in_the_files_of_their_ends_accounts_and_regions() {
    let place = Place::new(&[Output::Jsonl]);
    let sinks = place.start();
    let window = Window { start: 1_700_000_100, end: 1_700_000_700 };
    let mut batch = Batch { window, flows: Table::new(), ..examples::batch() };
    for (interface, end) in [(ENI, 1_700_000_399), (ENI, 1_700_000_400), (PLAIN, 1_700_000_400)] {
        let mut flow =
            examples::flow(interface, Direction::Egress, 17, ("10.0.0.5", "192.0.2.7"), (end as u16, 1));
        flow.counters.first_ms = window.start * 1000;
        flow.counters.last_ms = end * 1000 + 999;
        batch.flows.add(&flow);
    }
    sinks.finish(batch, &Deadline::never()).unwrap();
    let found: BTreeMap<String, usize> = place
        .files()
        .iter()
        .map(|file| {
            let name = file.file_name().unwrap().to_str().unwrap().rsplit_once('_').unwrap().0.to_owned();
            (name, lines(file).len())
        })
        .collect();
    let expected = [
        ("000000000000_vpcflowlogs_local_fl-0123456789abcdef0_20231114T2220Z", 1),
        ("000000000000_vpcflowlogs_local_fl-0123456789abcdef0_20231114T2225Z", 1),
        ("012345678901_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20231114T2215Z", 1),
        ("012345678901_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20231114T2220Z", 1),
        ("012345678901_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20231114T2225Z", 1),
    ];
    assert_eq!(found, expected.map(|(name, lines)| (name.to_owned(), lines)).into());
}

#[test]
fn a_file_that_is_large_is_finished_before_its_time() {
    for output in [Output::Jsonl, Output::Text] {
        let mut place = Place::new(&[output]);
        place.options.file_size = 1;
        let sinks = place.start();
        let count = 4 * UNIT as u32 / 100;
        sinks.offer(flows(WINDOW, count));
        place.wait_for(count.into());
        // Each unit has filled a file, while the window's five minutes are still running.
        let files = place.files();
        assert!(files.len() >= 4, "{files:?}");
        assert!(files.iter().all(|file| !file.file_name().unwrap().to_str().unwrap().starts_with('.')));
        sinks.finish(flows(after(WINDOW, 60), 0), &Deadline::never()).unwrap();
        let head = usize::from(output == Output::Text);
        assert_eq!(files.iter().map(|file| lines(file).len() - head).sum::<usize>(), count as usize);
    }
}

#[test]
fn the_records_of_a_window_are_in_a_file_before_the_next_window() {
    let place = Place::new(&[Output::Jsonl, Output::Text]);
    let sinks = place.start();
    sinks.offer(flows(WINDOW, 3));
    place.wait_for(6);
    let parts = place.files();
    assert_eq!(parts.len(), 2, "{parts:?}");
    for part in &parts {
        let whole = part.with_extension("");
        fs::copy(part, &whole).unwrap();
        assert!(lines(&whole).len() >= 3, "{}", part.display());
        fs::remove_file(whole).unwrap();
    }
    sinks.finish(flows(after(WINDOW, 60), 0), &Deadline::never()).unwrap();
    assert!(place.seen.told(|told| told.lost.is_empty()));
}

#[test]
fn a_directory_that_goes_takes_its_records_and_the_next_ones_are_written() {
    for output in [Output::Jsonl, Output::Text] {
        let place = Place::new(&[output]);
        let sinks = place.start();
        sinks.offer(flows(WINDOW, 3));
        place.wait_for(3);
        fs::remove_dir_all(&place.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 60), 4));
        place.wait_for(3 + 3 + 4);
        // Gone while nothing is written to it, too.
        fs::remove_dir_all(&place.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 600), 5));
        place.wait_for(3 + 3 + 4 + 4 + 5);
        sinks.finish(flows(after(WINDOW, 660), 0), &Deadline::never()).unwrap();
        let files = place.files();
        let head = usize::from(output == Output::Text);
        assert_eq!(files.iter().map(|file| lines(file).len() - head).sum::<usize>(), 5);
        place.seen.told(|told| {
            assert_eq!(told.written.records(), 3 + 4 + 5);
            assert_eq!(told.lost["file_gone"].records(), 3 + 4);
        });
    }
}

#[test]
fn what_cannot_be_written_is_counted_and_later_records_are_written() {
    for output in [Output::Jsonl, Output::Text] {
        let place = Place::new(&[output]);
        let sinks = place.start();
        fs::write(&place.options.directory, "in the way").unwrap();
        sinks.offer(flows(WINDOW, 3));
        place.wait_for(3);
        fs::remove_file(&place.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 60), 4));
        place.wait_for(3 + 4);
        sinks.finish(flows(after(WINDOW, 120), 0), &Deadline::never()).unwrap();
        place.seen.told(|told| {
            assert_eq!(told.lost["write_error"].records(), 3);
            assert_eq!(told.written.records(), 4);
            assert_eq!(told.failing, [true, false]);
        });
    }
}

#[test]
fn an_output_that_fails_to_the_end_says_so() {
    let place = Place::new(&[Output::Jsonl]);
    let sinks = place.start();
    fs::write(&place.options.directory, "in the way").unwrap();
    let error = sinks.finish(flows(WINDOW, 3), &Deadline::never()).unwrap_err().to_string();
    assert!(error.starts_with("jsonl: ") && error.contains("out"), "{error}");
}

#[test]
fn a_window_that_waits_too_long_is_counted() {
    let place = Place::new(&[Output::Jsonl]);
    let sinks = place.start();
    for number in 0..200 {
        sinks.offer(flows(after(WINDOW, number * 60), 2000));
    }
    sinks.finish(flows(after(WINDOW, 200 * 60), 1), &Deadline::never()).unwrap();
    place.seen.told(|told| {
        let lost = told.lost.get("queue_full").map_or(0, Counts::records);
        assert_eq!(told.written.records() + lost, 200 * 2000 + 1);
        assert!(told.lost.keys().all(|reason| *reason == "queue_full"));
    });
}
