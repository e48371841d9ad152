//! Sinks, on directories that go, come back, and cannot be written.

mod golden;
mod setup;

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use parquet::{
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field as Value,
};

use self::setup::Setup;
use super::{Counts, Output, lines::UNIT};
use crate::{
    flow::{Direction, Table, Window},
    record::{
        Batch, Context, Filter, Format, Status,
        examples::{self, ENI, PLAIN},
        hostile,
    },
    worker::Deadline,
};

/// The second of the five minutes of a slot.
const WINDOW: Window = Window { start: 1_700_000_160, end: 1_700_000_220 };

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

/// A window with this number of flows.
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
fn every_output_holds_and_reports_every_record_once() {
    let setup = Setup::new(&[Output::Jsonl, Output::Text]);
    let sinks = setup.start();
    let records = setup.options.context.clone();
    let expected = Counts::of(examples::batch().records(&records).map(|(_, record)| record));
    sinks.offer(examples::batch());
    sinks.finish(flows(after(WINDOW, 60), 5), &Deadline::never()).unwrap();
    let count = expected.records() as usize + 5;
    let files = setup.files();
    for (ending, head) in [("jsonl", 0), ("gz", 1)] {
        let of_kind = files.iter().filter(|file| file.extension().is_some_and(|it| it == ending));
        let found: Vec<_> = of_kind.flat_map(|file| lines(file).split_off(head)).collect();
        assert_eq!(found.len(), count, "{ending}");
    }
    setup.seen.reports(|reports| {
        assert_eq!(reports.written.records() as usize, 2 * count);
        assert_eq!(reports.written.with_status(Status::NoData), 2);
        assert_eq!(reports.written.with_status(Status::SkipData), 2);
        assert!(reports.lost.is_empty() && reports.failing.is_empty());
        assert_eq!(reports.files as usize, files.len());
    });
}

/// All rows of Parquet files, as text.
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
        let mut setup = Setup::new(&[Output::Parquet, Output::Text]);
        setup.options.context = Arc::new(examples::context(format.parse().unwrap()));
        let sinks = setup.start();
        sinks.offer(examples::batch());
        sinks.offer(flows(WINDOW, 70_000));
        let mut after_all = examples::batch();
        after_all.window = after(WINDOW, 60);
        sinks.finish(after_all, &Deadline::never()).unwrap();
        let files = setup.files();
        let of_kind = |ending: &str| -> Vec<PathBuf> {
            files.iter().filter(|file| file.to_string_lossy().ends_with(ending)).cloned().collect()
        };
        let mut text: Vec<_> =
            of_kind(".log.gz").iter().flat_map(|file| lines(file).split_off(1)).collect();
        let mut parquet = parquet_rows(&of_kind(".log.parquet"));
        text.sort();
        parquet.sort();
        assert_eq!(parquet.len(), text.len(), "{format}");
        assert!(parquet == text, "{format}");
    }
}

#[test]
fn excluded_records_are_reported_once() {
    let mut setup = Setup::new(&[Output::Jsonl, Output::Text]);
    let mut context = Context::new(Format::v2());
    context.filter = Filter::new(vec!["drop srcport=0-9".parse().unwrap()]);
    setup.options.context = Arc::new(context);
    let sinks = setup.start();
    sinks.offer(flows(WINDOW, 25));
    sinks.finish(flows(after(WINDOW, 60), 3), &Deadline::never()).unwrap();
    setup.seen.reports(|reports| {
        assert_eq!(reports.written.records(), 2 * 15);
        assert_eq!(reports.left_out.records(), 10 + 3);
        assert!(reports.lost.is_empty());
    });
}

#[test]
fn records_lie_in_the_files_of_their_ends_accounts_and_regions() {
    let setup = Setup::new(&[Output::Jsonl]);
    let sinks = setup.start();
    let window = Window { start: 1_700_000_100, end: 1_700_000_700 };
    let mut batch = Batch { window, flows: Table::new(), ..examples::batch() };
    for (interface, end) in [(ENI, 1_700_000_399), (ENI, 1_700_000_400), (PLAIN, 1_700_000_400)] {
        let mut flow = examples::flow(
            interface,
            Direction::Egress,
            17,
            ("10.0.0.5", "192.0.2.7"),
            (end as u16, 1),
        );
        flow.counters.first_ms = window.start * 1000;
        flow.counters.last_ms = end * 1000 + 999;
        batch.flows.add(&flow);
    }
    sinks.finish(batch, &Deadline::never()).unwrap();
    let found: BTreeMap<String, usize> = setup
        .files()
        .iter()
        .map(|file| {
            let name =
                file.file_name().unwrap().to_str().unwrap().rsplit_once('_').unwrap().0.to_owned();
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
        let mut setup = Setup::new(&[output]);
        setup.options.file_size = 1;
        let sinks = setup.start();
        let count = 4 * UNIT as u32 / 100;
        sinks.offer(flows(WINDOW, count));
        setup.wait_for(count.into());
        // Each unit filled a file, although the window's slot has not ended. The files are finished
        // after the last unit of the window.
        let is_finished =
            |file: &PathBuf| !file.file_name().unwrap().to_str().unwrap().starts_with('.');
        while !setup.files().iter().all(is_finished) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let files = setup.files();
        assert!(files.len() >= 4, "{files:?}");
        sinks.finish(flows(after(WINDOW, 60), 0), &Deadline::never()).unwrap();
        let head = usize::from(output == Output::Text);
        assert_eq!(
            files.iter().map(|file| lines(file).len() - head).sum::<usize>(),
            count as usize
        );
    }
}

#[test]
fn the_records_of_a_window_are_in_a_file_before_the_next_window() {
    let setup = Setup::new(&[Output::Jsonl, Output::Text]);
    let sinks = setup.start();
    sinks.offer(flows(WINDOW, 3));
    setup.wait_for(6);
    let parts = setup.files();
    assert_eq!(parts.len(), 2, "{parts:?}");
    for part in &parts {
        let whole = part.with_extension("");
        fs::copy(part, &whole).unwrap();
        assert!(lines(&whole).len() >= 3, "{}", part.display());
        fs::remove_file(whole).unwrap();
    }
    sinks.finish(flows(after(WINDOW, 60), 0), &Deadline::never()).unwrap();
    assert!(setup.seen.reports(|reports| reports.lost.is_empty()));
}

#[test]
fn a_directory_that_goes_takes_its_records_and_the_next_ones_are_written() {
    for output in [Output::Jsonl, Output::Text] {
        let setup = Setup::new(&[output]);
        let sinks = setup.start();
        sinks.offer(flows(WINDOW, 3));
        setup.wait_for(3);
        fs::remove_dir_all(&setup.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 60), 4));
        setup.wait_for(3 + 3 + 4);
        // Removed while the file is open and not written to.
        fs::remove_dir_all(&setup.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 600), 5));
        setup.wait_for(3 + 3 + 4 + 4 + 5);
        sinks.finish(flows(after(WINDOW, 660), 0), &Deadline::never()).unwrap();
        let files = setup.files();
        let head = usize::from(output == Output::Text);
        assert_eq!(files.iter().map(|file| lines(file).len() - head).sum::<usize>(), 5);
        setup.seen.reports(|reports| {
            assert_eq!(reports.written.records(), 3 + 4 + 5);
            assert_eq!(reports.lost["file_gone"].records(), 3 + 4);
        });
    }
}

#[test]
fn failed_writes_are_counted_and_later_records_are_written() {
    for output in [Output::Jsonl, Output::Text] {
        let setup = Setup::new(&[output]);
        let sinks = setup.start();
        fs::write(&setup.options.directory, "in the way").unwrap();
        sinks.offer(flows(WINDOW, 3));
        setup.wait_for(3);
        fs::remove_file(&setup.options.directory).unwrap();
        sinks.offer(flows(after(WINDOW, 60), 4));
        setup.wait_for(3 + 4);
        sinks.finish(flows(after(WINDOW, 120), 0), &Deadline::never()).unwrap();
        setup.seen.reports(|reports| {
            assert_eq!(reports.lost["write_error"].records(), 3);
            assert_eq!(reports.written.records(), 4);
            assert_eq!(reports.failing, [true, false]);
        });
    }
}

#[test]
fn an_output_that_fails_to_the_end_says_so() {
    let setup = Setup::new(&[Output::Jsonl]);
    let sinks = setup.start();
    fs::write(&setup.options.directory, "in the way").unwrap();
    let error = sinks.finish(flows(WINDOW, 3), &Deadline::never()).unwrap_err().to_string();
    assert!(error.starts_with("jsonl: ") && error.contains("out"), "{error}");
}

#[test]
fn a_window_that_waits_too_long_is_counted() {
    let setup = Setup::new(&[Output::Jsonl]);
    let sinks = setup.start();
    for number in 0..200 {
        sinks.offer(flows(after(WINDOW, number * 60), 2000));
    }
    sinks.finish(flows(after(WINDOW, 200 * 60), 1), &Deadline::never()).unwrap();
    setup.seen.reports(|reports| {
        let lost = reports.lost.get("queue_full").map_or(0, Counts::records);
        assert_eq!(reports.written.records() + lost, 200 * 2000 + 1);
        assert!(reports.lost.keys().all(|reason| *reason == "queue_full"));
    });
}

#[test]
fn columns_and_rows_of_every_output_do_not_depend_on_values() {
    for (seed, format) in [Format::v2(), Format::ecs(), Format::all()].into_iter().enumerate() {
        let columns = format.fields().len();
        let mut setup = Setup::new(&[Output::Jsonl, Output::Text, Output::Parquet]);
        setup.options.context = Arc::new(examples::context(format));
        let (hostile, plain) = hostile::windows(&mut fastrand::Rng::with_seed(1000 + seed as u64));
        let records = plain.records(&setup.options.context).count();
        setup.start().finish(hostile, &Deadline::never()).unwrap();
        let files = setup.files();
        let of_kind = |ending: &str| -> Vec<PathBuf> {
            files
                .iter()
                .filter(|file| file.extension().is_some_and(|it| it == ending))
                .cloned()
                .collect()
        };
        let text: Vec<_> = of_kind("gz").iter().flat_map(|file| lines(file).split_off(1)).collect();
        let mut rows = parquet_rows(&of_kind("parquet"));
        assert_eq!(of_kind("jsonl").iter().flat_map(|file| lines(file)).count(), records);
        assert_eq!((text.len(), rows.len()), (records, records));
        for line in text.iter().chain(&rows) {
            assert_eq!(line.split(' ').count(), columns, "{line:?}");
        }
        let mut text = text;
        text.sort();
        rows.sort();
        assert!(text == rows, "rows of text and of Parquet");
        for file in of_kind("parquet") {
            let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
            assert_eq!(reader.metadata().file_metadata().schema_descr().num_columns(), columns);
        }
    }
}
