//! A view of ClickHouse over all files.

use std::fmt::Write as _;

use super::{
    Layout,
    sql::{columns, quoted},
};
use crate::sink::Output;

pub(super) fn view(layout: &Layout<'_>) -> String {
    let types = columns(
        &layout.columns(),
        ["Nullable(Int32)", "Nullable(Int64)", "Nullable(String)"],
        |text, name, kind| {
            let _ = write!(text, "`{name}` {kind}");
        },
    );
    let (format, settings) = match layout.output {
        Output::Text => (
            "CSV",
            "\nSETTINGS format_csv_delimiter = ' ', format_csv_null_representation = '-', \
             input_format_csv_skip_first_lines = 1",
        ),
        Output::Parquet => ("Parquet", ""),
        Output::Jsonl | Output::Stdout => ("JSONEachRow", ""),
    };
    let ending = layout.output.ending().unwrap_or_default();
    let (function, files) = match layout.s3() {
        Some((bucket, prefix)) => {
            let base = match layout.endpoint {
                Some(endpoint) => format!("{endpoint}/{bucket}"),
                None => {
                    format!("https://{bucket}.s3.{}.amazonaws.com", layout.region.unwrap_or("us-east-1"))
                }
            };
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            ("s3", format!("{base}/{prefix}AWSLogs/**/*.{ending}"))
        }
        None => ("file", layout.glob()),
    };
    format!(
        "CREATE OR REPLACE VIEW flow_logs AS\nSELECT *\nFROM {function}({}, '{format}', '\n{types}\n'){settings};\n",
        quoted(&files)
    )
}
