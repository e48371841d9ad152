//! One record of each kind in each format, as files: a change of a format shows in their diff.
//! `UPDATE_EXPECT=1 cargo test -p observer golden` writes them.

use std::{fs, sync::Arc};

use expect_test::expect_file;
use parquet::{
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    schema::printer::print_schema,
};

use super::{Setup, lines};
use crate::{
    flow::{Direction, InterfaceNumber, Table, Traffic},
    record::{
        Batch, Format,
        examples::{self, ENI, PLAIN, WINDOW},
    },
    sink::Output,
    worker::Deadline,
};

/// A TCP flow of an ENI, an interface without traffic, and one with losses.
fn batch() -> Batch {
    let ends = ("10.0.0.5", "52.95.128.179");
    let mut flow = examples::flow(ENI, Direction::Egress, 6, ends, (40000, 443));
    (flow.counters.tcp_flags_all, flow.counters.tcp_flags_aws) = (0x1b, 0x03);
    let mut flows = Table::new();
    flows.add(&flow);
    let silent = InterfaceNumber::new(4);
    Batch {
        flows,
        subjects: [(ENI, examples::eni()), (PLAIN, examples::plain()), (silent, examples::eni())]
            .map(|(number, subject)| (number, Arc::new(subject)))
            .into(),
        silent: vec![silent],
        lossy: vec![(PLAIN, Traffic { packets: 7, bytes: 700 })],
        ..Batch::new(WINDOW)
    }
}

/// Lines of all files of an output.
fn written(output: Output, format: Format) -> String {
    let mut setup = Setup::new(&[output]);
    setup.options.context = Arc::new(examples::context(format));
    setup.start().finish(batch(), &Deadline::never()).unwrap();
    let files = setup.files();
    files.iter().flat_map(|file| lines(file)).map(|line| line + "\n").collect()
}

#[test]
fn json_lines_are_those_of_the_file() {
    expect_file!["../../../golden/records/jsonl.txt"].assert_eq(&written(Output::Jsonl, Format::v2()));
}

#[test]
fn text_is_that_of_the_files() {
    expect_file!["../../../golden/records/text-v2.txt"].assert_eq(&written(Output::Text, Format::v2()));
    expect_file!["../../../golden/records/text-all.txt"].assert_eq(&written(Output::Text, Format::all()));
}

#[test]
fn parquet_has_the_schema_and_rows_of_the_file() {
    let mut setup = Setup::new(&[Output::Parquet]);
    setup.options.context = Arc::new(examples::context(Format::all()));
    setup.start().finish(batch(), &Deadline::never()).unwrap();
    let mut text = Vec::new();
    for file in setup.files() {
        let reader = SerializedFileReader::new(fs::File::open(file).unwrap()).unwrap();
        print_schema(&mut text, reader.metadata().file_metadata().schema());
        for row in reader.get_row_iter(None).unwrap() {
            text.extend_from_slice(b"\n");
            for (column, value) in row.unwrap().get_column_iter() {
                text.extend_from_slice(format!("{column}: {value}\n").as_bytes());
            }
        }
    }
    expect_file!["../../../golden/records/parquet.txt"].assert_eq(&String::from_utf8(text).unwrap());
}
