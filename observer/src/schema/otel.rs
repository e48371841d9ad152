//! A pipeline of the OpenTelemetry Collector, in its contrib distribution.

use super::{error::SchemaError, layout::Layout};
use crate::sink::Output;

/// Notes on the collector's versions, as a comment above the settings.
///
/// Sources: `extension/encoding/awslogsencodingextension` and the collector's release notes. The
/// reader added in v0.143.0 (pull request 44771) takes the text after the last newline for a
/// record, until v0.147.0 (46221). ECS fields (47868) and Parquet (47220) were added after
/// v0.150.0. Some versions reject protocol numbers of 143 and above, the size of their table of
/// names, and reject a file with any error.
const TEXT_NOTES: &str = "\
  # v0.143.0 to v0.146.x refuse a file that ends in a newline, as these do: take an older or a newer collector.
  # v0.150.0 and older leave out the ecs- fields. Some versions refuse a file that holds a protocol of 143 or above.
";
const PARQUET_NOTES: &str = "\
  # v0.150.0 and older do not read Parquet. Some versions refuse a file that holds a protocol of 143 or above.
";

pub(super) fn pipeline(layout: &Layout<'_>) -> Result<String, SchemaError> {
    Ok(match layout.s3() {
        Some((bucket, prefix)) => of_bucket(layout, (bucket, prefix), layout.region()?),
        None if layout.output == Output::Parquet => {
            return Err(SchemaError::Output {
                reader: "the OpenTelemetry Collector's receiver of files",
                output: "parquet",
                instead: "jsonl or text, or --deliver s3://",
            });
        }
        None => of_folder(layout),
    })
}

fn of_bucket(layout: &Layout<'_>, (bucket, prefix): (&str, &str), region: &str) -> String {
    let (extension, notes, settings) = match layout.output {
        Output::Text => (
            "awslogs_encoding/flow_logs",
            TEXT_NOTES,
            "{format: vpcflow, vpcflow: {file_format: plain-text}}",
        ),
        Output::Parquet => (
            "awslogs_encoding/flow_logs",
            PARQUET_NOTES,
            "{format: vpcflow, vpcflow: {file_format: parquet}}",
        ),
        Output::Jsonl | Output::Stdout => {
            ("text_encoding/flow_logs", "", "{unmarshaling_separator: \"\\n\"}")
        }
    };
    let ending = layout.output.ending().unwrap_or_default();
    format!(
        "extensions:
{notes}  {extension}: {settings}
receivers:
  awss3:
    sqs:
      # The queue that the bucket notifies of new objects.
      queue_url: ${{env:FLOW_LOGS_QUEUE_URL}}
      region: {region}
    s3downloader: {{region: {region}, s3_bucket: {bucket}, s3_prefix: \"{prefix}\"}}
    encodings:
      - {{extension: {extension}, suffix: .{ending}}}
exporters:
  debug: {{}}
service:
  extensions: [{extension}]
  pipelines:
    logs: {{receivers: [awss3], exporters: [debug]}}
"
    )
}

fn of_folder(layout: &Layout<'_>) -> String {
    let files = serde_json::Value::from(layout.glob());
    let fields = layout.format.fields();
    let operators = if layout.output == Output::Text {
        let header: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        let names: Vec<&str> = fields.iter().map(|field| field.key()).collect();
        format!(
            "    compression: gzip
    operators:
      # The first line of a file names the fields.
      - {{type: filter, expr: 'body == \"{}\"'}}
      - {{type: csv_parser, delimiter: ' ', header: '{}', header_delimiter: ' '}}
",
            header.join(" "),
            names.join(" ")
        )
    } else {
        "    operators:
      - type: json_parser
        timestamp: {parse_from: attributes.end, layout_type: epoch, layout: s}
"
        .to_owned()
    };
    format!(
        "receivers:
  filelog:
    include: [{files}]
    start_at: beginning
{operators}exporters:
  debug: {{}}
service:
  pipelines:
    logs: {{receivers: [filelog], exporters: [debug]}}
"
    )
}
