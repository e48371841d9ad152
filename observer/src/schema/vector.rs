//! A source and a transform of Vector.

use super::{error::SchemaError, layout::Layout};
use crate::sink::Output;

pub(super) fn pipeline(layout: &Layout<'_>) -> Result<String, SchemaError> {
    let names: Vec<&str> = layout.format.fields().iter().map(|field| field.key()).collect();
    let header: Vec<&str> = layout.format.fields().iter().map(|field| field.name()).collect();
    let program = match layout.output {
        Output::Text => format!(
            "      # The first line of a file names the fields.\n      \
             if .message == \"{}\" {{ abort }}\n      \
             . = parse_aws_vpc_flow_log!(.message, format: \"{}\")\n",
            header.join(" "),
            names.join(" ")
        ),
        Output::Jsonl | Output::Stdout => "      . = parse_json!(.message)\n".to_owned(),
        Output::Parquet => {
            return Err(SchemaError::Output {
                reader: "Vector",
                output: "parquet",
                instead: "jsonl or text",
            });
        }
    };
    let source = match layout.s3() {
        Some(_) => format!(
            "    type: aws_s3\n    region: {}\n    compression: auto\n    sqs:\n      \
             # The queue that the bucket notifies of new objects.\n      \
             queue_url: ${{FLOW_LOGS_QUEUE_URL}}\n",
            layout.region()?
        ),
        None => format!(
            "    type: file\n    include: [{}]\n    # Files begin alike: their first lines would not tell them apart.\n    \
             fingerprint: {{strategy: device_and_inode}}\n",
            serde_json::Value::from(layout.glob())
        ),
    };
    let has_end = layout.output != Output::Text || names.contains(&"end");
    let time = if has_end { "      .timestamp = from_unix_timestamp!(.end)\n" } else { "" };
    Ok(format!(
        "sources:\n  flow_logs:\n{source}transforms:\n  flow_log_records:\n    type: remap\n    inputs: [flow_logs]\n    \
         drop_on_abort: true\n    drop_on_error: true\n    source: |\n{program}{time}"
    ))
}
