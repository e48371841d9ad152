//! Format and location of the files, and their columns.

use std::borrow::Cow;

use super::error::SchemaError;
use crate::{
    config::Config,
    record::{Extension, Field, FieldType, Format},
    sink::{Output, Partition},
};

/// Format and location of the files, as `observer run` writes them.
#[derive(Clone, Debug)]
pub struct Layout<'a> {
    pub(super) format: &'a Format,
    pub(super) output: Output,
    pub(super) partition: Partition,
    /// The folder or URL that contains `AWSLogs`, without a slash at its end.
    pub(super) place: Cow<'a, str>,
    /// URL of an S3 service other than Amazon's.
    pub(super) endpoint: Option<&'a str>,
    pub(super) account: Option<&'a str>,
    pub(super) region: Option<&'a str>,
}

/// A column of a table, or a key of a JSON object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: FieldType,
    pub(super) description: &'static str,
    /// True for the fields of version 2, which every JSON line has.
    pub(super) is_always_there: bool,
}

impl<'a> Layout<'a> {
    /// Layout of the files that `observer run` writes with this configuration.
    pub fn of(config: &'a Config) -> Result<Self, SchemaError> {
        let output = &config.output;
        let mut files = output.outputs.formats.iter().filter(|output| output.ending().is_some());
        let first = *files.next().ok_or(SchemaError::NoFiles)?;
        if files.next().is_some() {
            return Err(SchemaError::ManyFormats);
        }
        let place = match &config.delivery {
            Some(delivery) => {
                let url = delivery.store.url();
                Cow::Borrowed(url.strip_prefix("file://").unwrap_or(url).trim_end_matches('/'))
            }
            None => output.outputs.directory.to_string_lossy(),
        };
        Ok(Self {
            format: &output.context.format,
            output: first,
            partition: output.records.partition,
            place,
            endpoint: config.delivery.as_ref().and_then(|delivery| delivery.options.endpoint.as_deref()),
            account: output.context.account_id.as_deref(),
            region: output.context.region.as_deref(),
        })
    }

    /// Columns of the files.
    pub(super) fn columns(&self) -> Vec<Column> {
        match self.output {
            Output::Jsonl | Output::Stdout => keys().collect(),
            Output::Text | Output::Parquet => self.format.fields().iter().copied().map(of_field).collect(),
        }
    }

    /// Region of the bucket.
    pub(super) fn region(&self) -> Result<&'a str, SchemaError> {
        self.region.ok_or(SchemaError::NoRegion)
    }

    /// Pattern that matches all files of all accounts, regions and days.
    pub(super) fn glob(&self) -> String {
        format!("{}/AWSLogs/**/*.{}", self.place, self.output.ending().unwrap_or_default())
    }

    /// Bucket and prefix, if the files are in S3.
    pub(super) fn s3(&self) -> Option<(&str, &str)> {
        let place = self.place.strip_prefix("s3://")?;
        Some(place.split_once('/').unwrap_or((place, "")))
    }

    /// True if folders are named `key=value`.
    pub(super) const fn is_hive(&self) -> bool {
        matches!(self.partition, Partition::Hive | Partition::HiveHourly)
    }
}

/// Keys of JSON lines.
pub(super) fn keys() -> impl Iterator<Item = Column> {
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
