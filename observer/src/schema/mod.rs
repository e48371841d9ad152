//! What readers of the files are told: tables, views and pipelines for the format in use.
//!
//! Owns: the statements and snippets of each reader. In: the fields' one table, and how and where files are written.
//! Out: text that runs as it is printed. Pure.

mod athena;
mod clickhouse;
mod duckdb;
mod json;
mod otel;
mod sql;
mod vector;

use std::borrow::Cow;

use crate::{
    cli::Reader,
    config::Config,
    record::{Extension, Field, FieldType, Format},
    sink::{Output, Partition},
};

/// Why there is nothing to print. Each is one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Nothing goes into files.
    #[error("a schema is one of files: give --output jsonl, text or parquet")]
    NoFiles,
    /// One table cannot read two formats.
    #[error("a table reads one format: give --output once")]
    ManyFormats,
    /// The reader cannot read this format.
    #[error("{reader} does not read {output}: give --output {instead}")]
    Output {
        /// The reader.
        reader: &'static str,
        /// The format.
        output: &'static str,
        /// What it does read.
        instead: &'static str,
    },
    /// The reader cannot read from there.
    #[error("Athena reads from S3: say where the files are with --deliver s3://BUCKET/PREFIX")]
    NotInS3,
    /// Amazon's address of a bucket has its region in it.
    #[error("this schema names the bucket's region: give it with --region")]
    NoRegion,
    /// Nobody has tried whether it reads from there.
    #[error(
        "this schema is for s3:// and for folders: mount {0:?}, or copy the files, and name that place with --deliver"
    )]
    Elsewhere(String),
}

/// How and where files are written.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    format: &'a Format,
    output: Output,
    partition: Partition,
    /// What `AWSLogs` lies below: a folder or a URL, without a slash at its end.
    place: Cow<'a, str>,
    /// Address of the S3 service, where it is not Amazon's.
    endpoint: Option<&'a str>,
    account: Option<&'a str>,
    region: Option<&'a str>,
}

/// A column of a table, or a key of an object.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    kind: FieldType,
    description: &'static str,
    /// Of version 2: in every JSON line.
    is_always_there: bool,
}

impl<'a> Layout<'a> {
    /// How `observer run` would write with this configuration.
    pub fn of(config: &'a Config) -> Result<Self, SchemaError> {
        let output = &config.output;
        let mut files = output.outputs.iter().filter(|output| output.ending().is_some());
        let first = *files.next().ok_or(SchemaError::NoFiles)?;
        if files.next().is_some() {
            return Err(SchemaError::ManyFormats);
        }
        let place = match &config.delivery {
            Some(delivery) => {
                let url = delivery.store.url();
                Cow::Borrowed(url.strip_prefix("file://").unwrap_or(url).trim_end_matches('/'))
            }
            None => output.directory.to_string_lossy(),
        };
        Ok(Self {
            format: &output.context.format,
            output: first,
            partition: output.partition,
            place,
            endpoint: config.delivery.as_ref().and_then(|delivery| delivery.endpoint.as_deref()),
            account: output.context.account_id.as_deref(),
            region: output.context.region.as_deref(),
        })
    }

    /// What a reader is told.
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

    /// What the files hold.
    fn columns(&self) -> Vec<Column> {
        match self.output {
            Output::Jsonl | Output::Stdout => keys().collect(),
            Output::Text | Output::Parquet => self.format.fields().iter().copied().map(of_field).collect(),
        }
    }

    /// The region of the bucket.
    fn region(&self) -> Result<&'a str, SchemaError> {
        self.region.ok_or(SchemaError::NoRegion)
    }

    /// All files of all accounts, regions and days.
    fn glob(&self) -> String {
        format!("{}/AWSLogs/**/*.{}", self.place, self.output.ending().unwrap_or_default())
    }

    /// The bucket and the prefix, if they are in S3.
    fn s3(&self) -> Option<(&str, &str)> {
        let place = self.place.strip_prefix("s3://")?;
        Some(place.split_once('/').unwrap_or((place, "")))
    }

    /// Whether folders are named `key=value`.
    const fn is_hive(&self) -> bool {
        matches!(self.partition, Partition::Hive | Partition::HiveHourly)
    }
}

/// The keys of JSON lines.
fn keys() -> impl Iterator<Item = Column> {
    let extension = |extension: &Extension| Column {
        name: extension.key(),
        kind: extension.field_type(),
        description: extension.description(),
        is_always_there: false,
    };
    Field::ALL.iter().copied().map(of_field).chain(Extension::ALL.iter().map(extension))
}

fn of_field(field: Field) -> Column {
    Column {
        name: field.key(),
        kind: field.field_type(),
        description: field.description(),
        is_always_there: field.version() == 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    const READERS: [Reader; 6] =
        [Reader::Athena, Reader::Duckdb, Reader::Clickhouse, Reader::Vector, Reader::Otel, Reader::Json];

    #[test]
    fn every_reader_is_told_of_every_field_or_why_not() {
        let format = Format::all();
        for reader in READERS {
            for output in [Output::Jsonl, Output::Text, Output::Parquet] {
                let layout = layout(&format, output);
                match layout.print(reader) {
                    // A JSON line names its keys itself.
                    Ok(_) if matches!(reader, Reader::Vector | Reader::Otel) && output == Output::Jsonl => {}
                    // The collector reads the header.
                    Ok(_) if reader == Reader::Otel => {}
                    Ok(text) => {
                        for column in layout.columns() {
                            assert!(text.contains(column.name), "{reader:?} {output:?}: {}", column.name);
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
    fn the_collector_reads_parquet_from_s3_alone_and_its_versions_are_named() {
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
            let expected = format!("'storage.location.template' = 's3://logs/fleet/AWSLogs{template}'");
            assert!(table.contains(&expected), "{table}");
            assert!(table.contains("'projection.aws_account.values' = '123456789012'"), "{table}");
            assert!(table.contains("'projection.aws_region.type' = 'injected'"), "{table}");
            assert!(table.contains("'comment' = 'each query has to say which:"), "{table}");
        }
        let layout = Layout { place: "/var/log/observer".into(), ..layout(&format, Output::Text) };
        assert_eq!(layout.print(Reader::Athena), Err(SchemaError::NotInS3));
    }

    #[test]
    fn nothing_is_printed_that_would_read_from_nowhere() {
        let format = Format::v2();
        for reader in READERS.into_iter().filter(|reader| *reader != Reader::Json) {
            let layout = Layout { place: "gs://logs/fleet".into(), ..layout(&format, Output::Text) };
            layout.print(reader).unwrap_err();
        }
    }

    #[test]
    fn a_quote_in_a_folder_s_name_ends_no_statement() {
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
