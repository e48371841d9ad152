//! A view of ClickHouse over all files.

use std::fmt::Write as _;

use super::{
    error::SchemaError,
    layout::Layout,
    sql::{columns, quoted},
};
use crate::sink::Output;

pub(super) fn view(layout: &Layout<'_>) -> Result<String, SchemaError> {
    let types = columns(
        &layout.columns(),
        ["Nullable(Int32)", "Nullable(Int64)", "Nullable(String)"],
        |text, name, kind| {
            let _ = write!(text, "`{name}` {kind}");
        },
    );
    let (format, settings) = match layout.output {
        // The CSV format does not accept a space as separator.
        Output::Text => (
            "CustomSeparatedWithNames",
            "\nSETTINGS format_custom_field_delimiter = ' ', format_custom_escaping_rule = 'CSV', \
             format_csv_null_representation = '-', format_csv_allow_double_quotes = 0, \
             format_csv_allow_single_quotes = 0, input_format_with_names_use_header = 0",
        ),
        Output::Parquet => ("Parquet", ""),
        Output::Jsonl | Output::Stdout => ("JSONEachRow", ""),
    };
    let ending = layout.output.ending().unwrap_or_default();
    let (function, files) = match layout.s3() {
        Some((bucket, prefix)) => {
            let base = match layout.endpoint {
                Some(endpoint) => format!("{endpoint}/{bucket}"),
                None => format!("https://{bucket}.s3.{}.amazonaws.com", layout.region()?),
            };
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            ("s3", format!("{base}/{prefix}AWSLogs/**/*.{ending}"))
        }
        None => ("file", layout.glob()),
    };
    Ok(format!(
        "CREATE OR REPLACE VIEW flow_logs AS\nSELECT *\nFROM {function}({}, '{format}', '\n{types}\n'){settings};\n",
        quoted(&files)
    ))
}
