//! Table definitions and pipeline configurations for reading the record files.
//!
//! Owns: the statements of each reader. In: the table of fields, and the format and location of the
//! files. Out: text that can be used as printed. Pure.

#![deny(clippy::disallowed_methods, reason = "pure: the caller says the time and does the I/O")]

mod athena;
mod clickhouse;
mod duckdb;
mod error;
mod json;
mod layout;
mod otel;
mod sql;
mod vector;

use clap::ValueEnum;

pub use self::{error::SchemaError, layout::Layout};

/// Readers supported by `observer schema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reader {
    /// A table of Amazon Athena, with partition projection
    Athena,
    /// A view of DuckDB
    Duckdb,
    /// A view of ClickHouse
    Clickhouse,
    /// A pipeline of Vector
    Vector,
    /// A pipeline of the OpenTelemetry Collector
    Otel,
    /// JSON Schema of a JSON line
    Json,
}

impl Layout<'_> {
    /// Prints the table definition or pipeline configuration for a reader.
    pub fn print(&self, reader: Reader) -> Result<String, SchemaError> {
        let is_elsewhere = self.place.contains("://") && self.s3().is_none();
        if is_elsewhere && !matches!(reader, Reader::Athena | Reader::Json) {
            return Err(SchemaError::Elsewhere(self.place.to_string()));
        }
        match reader {
            Reader::Athena => athena::table(self),
            Reader::Duckdb => Ok(duckdb::view(self)),
            Reader::Clickhouse => clickhouse::view(self),
            Reader::Vector => vector::pipeline(self),
            Reader::Otel => otel::pipeline(self),
            Reader::Json => Ok(json::schema()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{layout::keys, *};
    use crate::{
        record::Format,
        sink::{Output, Partition},
    };

    fn layout(format: &Format, output: Output) -> Layout<'_> {
        Layout {
            format,
            output,
            partition: Partition::Daily,
            place: "s3://logs/fleet".into(),
            endpoint: None,
            account: Some("123456789012"),
            region: Some("eu-west-1"),
        }
    }

    const READERS: [Reader; 6] = [
        Reader::Athena,
        Reader::Duckdb,
        Reader::Clickhouse,
        Reader::Vector,
        Reader::Otel,
        Reader::Json,
    ];

    #[test]
    fn every_schema_names_every_field_or_fails_with_advice() {
        let format = Format::all();
        for reader in READERS {
            for output in [Output::Jsonl, Output::Text, Output::Parquet] {
                let layout = layout(&format, output);
                match layout.print(reader) {
                    // A JSON line contains its keys.
                    Ok(_)
                        if matches!(reader, Reader::Vector | Reader::Otel)
                            && output == Output::Jsonl => {}
                    // The collector reads the keys from the header.
                    Ok(_) if reader == Reader::Otel => {}
                    Ok(text) => {
                        for column in layout.columns() {
                            assert!(
                                text.contains(column.name),
                                "{reader:?} {output:?}: {}",
                                column.name
                            );
                        }
                        assert!(text.ends_with('\n') && !text.contains("  \n"), "{text}");
                    }
                    Err(error) => {
                        assert_eq!(output, Output::Parquet, "{reader:?}");
                        assert!(error.to_string().contains("--output jsonl or text"), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_collector_reads_parquet_only_from_s3_and_its_versions_are_named() {
        let format = Format::all();
        let of = |output, place: &'static str| {
            Layout { place: place.into(), ..layout(&format, output) }.print(Reader::Otel)
        };
        let parquet = of(Output::Parquet, "s3://logs/fleet").unwrap();
        assert!(parquet.contains("vpcflow: {file_format: parquet}"), "{parquet}");
        assert!(parquet.contains("suffix: .log.parquet"), "{parquet}");
        assert!(parquet.contains("v0.150.0"), "{parquet}");
        let error = of(Output::Parquet, "/var/log/observer").unwrap_err().to_string();
        assert!(error.contains("--output jsonl or text"), "{error}");
        let text = of(Output::Text, "s3://logs/fleet").unwrap();
        assert!(text.contains("v0.143.0 to v0.146.x refuse"), "{text}");
        let lines = of(Output::Jsonl, "s3://logs/fleet").unwrap();
        assert!(!lines.contains("refuse"), "{lines}");
    }

    #[test]
    fn athena_finds_the_folders_of_each_partition() {
        let format = Format::v2();
        for (partition, template) in [
            (Partition::Daily, "/${aws_account}/vpcflowlogs/${aws_region}/${day}/"),
            (Partition::Hourly, "/${aws_account}/vpcflowlogs/${aws_region}/${hour}/"),
            (
                Partition::Hive,
                "/aws-account-id=${aws_account}/aws-service=vpcflowlogs/aws-region=${aws_region}/year=${year}/\
                 month=${month}/day=${day}/",
            ),
            (
                Partition::HiveHourly,
                "/aws-account-id=${aws_account}/aws-service=vpcflowlogs/aws-region=${aws_region}/year=${year}/\
                 month=${month}/day=${day}/hour=${hour}/",
            ),
        ] {
            let layout = Layout { partition, region: None, ..layout(&format, Output::Text) };
            let table = layout.print(Reader::Athena).unwrap();
            let expected =
                format!("'storage.location.template' = 's3://logs/fleet/AWSLogs{template}'");
            assert!(table.contains(&expected), "{table}");
            assert!(table.contains("'projection.aws_account.values' = '123456789012'"), "{table}");
            assert!(table.contains("'projection.aws_region.type' = 'injected'"), "{table}");
            assert!(table.contains("'comment' = 'each query has to say which:"), "{table}");
        }
        let layout = Layout { place: "/var/log/observer".into(), ..layout(&format, Output::Text) };
        assert_eq!(layout.print(Reader::Athena), Err(SchemaError::NotInS3));
    }

    #[test]
    fn unreadable_locations_are_rejected() {
        let format = Format::v2();
        for reader in READERS.into_iter().filter(|reader| *reader != Reader::Json) {
            let layout =
                Layout { place: "gs://logs/fleet".into(), ..layout(&format, Output::Text) };
            layout.print(reader).unwrap_err();
        }
    }

    #[test]
    fn quotes_in_folder_names_are_escaped() {
        let format = Format::v2();
        for reader in [Reader::Duckdb, Reader::Clickhouse] {
            let layout = Layout { place: "/o'log".into(), ..layout(&format, Output::Text) };
            let text = layout.print(reader).unwrap();
            assert!(text.contains("'/o''log/AWSLogs/"), "{text}");
        }
    }

    #[test]
    fn the_json_schema_is_json_and_knows_every_key() {
        let schema: serde_json::Value = serde_json::from_str(&json::schema()).unwrap();
        assert_eq!(schema["properties"].as_object().unwrap().len(), keys().count());
        assert_eq!(schema["required"].as_array().unwrap().len(), 14);
        assert_eq!(schema["properties"]["srcaddr"]["type"], serde_json::json!(["string", "null"]));
        assert_eq!(schema["properties"]["packets"]["type"], serde_json::json!(["integer", "null"]));
        assert_eq!(schema["properties"]["vpc_id"]["type"], "string");
    }
}
