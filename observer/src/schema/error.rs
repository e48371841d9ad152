/// Error of printing a schema. The text is one line of advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No output writes files.
    #[error("a schema describes files: give --output jsonl, text or parquet")]
    NoFiles,
    /// More than one output writes files, and a table reads one format.
    #[error("a table reads one format: give --output once")]
    ManyFormats,
    /// The reader does not support this format.
    #[error("{reader} does not read {output}: give --output {instead}")]
    Output {
        /// Name of the reader.
        reader: &'static str,
        /// The unsupported format.
        output: &'static str,
        /// Supported formats.
        instead: &'static str,
    },
    /// The reader does not support this location.
    #[error(
        "Athena reads from S3: give the location of the files with --deliver s3://BUCKET/PREFIX"
    )]
    NotInS3,
    /// The bucket's URL contains its region, which is unknown.
    #[error("this schema names the bucket's region: give it with --region")]
    NoRegion,
    /// Untested: the reader with this kind of URL.
    #[error(
        "this schema is for s3:// and for folders: mount {0:?}, or copy the files, and name that place with --deliver"
    )]
    Elsewhere(String),
}
