//! A pipeline of the OpenTelemetry Collector, in its contrib distribution.

use super::{Layout, SchemaError};
use crate::sink::Output;

pub(super) fn pipeline(layout: &Layout<'_>) -> Result<String, SchemaError> {
    if layout.output == Output::Parquet {
        return Err(SchemaError::Output {
            reader: "the OpenTelemetry Collector",
            output: "parquet",
            instead: "jsonl or text",
        });
    }
    Ok(match layout.s3() {
        Some((bucket, prefix)) => of_bucket(layout, (bucket, prefix), layout.region()?),
        None => of_folder(layout),
    })
}

fn of_bucket(layout: &Layout<'_>, (bucket, prefix): (&str, &str), region: &str) -> String {
    let (extension, settings) = match layout.output {
        Output::Text => {
            ("awslogs_encoding/flow_logs", "{format: vpcflow, vpcflow: {file_format: plain-text}}")
        }
        _ => ("text_encoding/flow_logs", "{unmarshaling_separator: \"\\n\"}"),
    };
    let ending = layout.output.ending().unwrap_or_default();
    format!(
        "extensions:
  {extension}: {settings}
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
