//! A table of Amazon Athena with computed partitions (AWS, "Use partition projection").

use std::fmt::Write as _;

use super::{
    error::SchemaError,
    layout::Layout,
    sql::{columns, properties, quoted},
};
use crate::sink::{Output, Partition};

/// First year with record files.
const FIRST_YEAR: u32 = 2026;
const LAST_YEAR: u32 = 2040;

pub(super) fn table(layout: &Layout<'_>) -> Result<String, SchemaError> {
    layout.s3().ok_or(SchemaError::NotInS3)?;
    let root = format!("{}/AWSLogs/", layout.place);
    let columns = columns(&layout.columns(), ["int", "bigint", "string"], |text, name, kind| {
        // Declared as bigint by AWS, although AWS's Parquet files hold 32 bits too.
        let kind = if name == "protocol" { "bigint" } else { kind };
        let _ = write!(text, "`{name}` {kind}");
    });
    let rows = match layout.output {
        Output::Text => {
            "ROW FORMAT DELIMITED FIELDS TERMINATED BY ' ' NULL DEFINED AS '-'\nSTORED AS TEXTFILE"
        }
        Output::Parquet => "STORED AS PARQUET",
        Output::Jsonl | Output::Stdout => "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'",
    };
    let (partitions, folders, mut pairs) = partitions(layout);
    let partitions: Vec<String> = partitions.iter().map(|(name, kind)| format!("`{name}` {kind}")).collect();
    if layout.account.is_none() || layout.region.is_none() {
        let comment = "each query has to say which: WHERE aws_account = ... AND aws_region = ...";
        pairs.push(("comment".into(), comment.into()));
    }
    pairs.push(("storage.location.template".into(), format!("{root}{folders}")));
    if layout.output == Output::Text {
        pairs.push(("skip.header.line.count".into(), "1".into()));
    }
    Ok(format!(
        "CREATE EXTERNAL TABLE IF NOT EXISTS `flow_logs` (\n{columns}\n)\nPARTITIONED BY ({})\n{rows}\nLOCATION {}\n\
         TBLPROPERTIES (\n{}\n);\n",
        partitions.join(", "),
        quoted(&root),
        properties(&pairs)
    ))
}

/// The partition columns, the folders that they select, and the table properties with their values.
#[expect(clippy::type_complexity, reason = "the three parts of one thing, taken apart at once")]
fn partitions(
    layout: &Layout<'_>,
) -> (Vec<(&'static str, &'static str)>, &'static str, Vec<(String, String)>) {
    let mut columns = vec![("aws_account", "string"), ("aws_region", "string")];
    let mut pairs = vec![("projection.enabled".to_owned(), "true".to_owned())];
    let mut set = |column: &str, key: &str, value: &str| {
        pairs.push((format!("projection.{column}.{key}"), value.to_owned()));
    };
    for (column, value) in [("aws_account", layout.account), ("aws_region", layout.region)] {
        if let Some(value) = value {
            set(column, "type", "enum");
            set(column, "values", value);
        } else {
            // Each query has to name a value.
            set(column, "type", "injected");
        }
    }
    let mut date = |column: &str, format: &str, unit: &str| {
        set(column, "type", "date");
        set(column, "format", format);
        set(column, "range", "NOW-3YEARS,NOW");
        set(column, "interval", "1");
        set(column, "interval.unit", unit);
    };
    let folders = match layout.partition {
        Partition::Daily => {
            columns.push(("day", "string"));
            date("day", "yyyy/MM/dd", "DAYS");
            "${aws_account}/vpcflowlogs/${aws_region}/${day}/"
        }
        Partition::Hourly => {
            columns.push(("hour", "string"));
            date("hour", "yyyy/MM/dd/HH", "HOURS");
            "${aws_account}/vpcflowlogs/${aws_region}/${hour}/"
        }
        Partition::Hive | Partition::HiveHourly => {
            let years = format!("{FIRST_YEAR},{LAST_YEAR}");
            let mut parts = vec![("year", years.as_str()), ("month", "1,12"), ("day", "1,31")];
            if layout.partition == Partition::HiveHourly {
                parts.push(("hour", "0,23"));
            }
            for (column, range) in parts {
                columns.push((column, "int"));
                set(column, "type", "integer");
                set(column, "range", range);
                if column != "year" {
                    set(column, "digits", "2");
                }
            }
            if layout.partition == Partition::Hive {
                "aws-account-id=${aws_account}/aws-service=vpcflowlogs/aws-region=${aws_region}/year=${year}/\
                 month=${month}/day=${day}/"
            } else {
                "aws-account-id=${aws_account}/aws-service=vpcflowlogs/aws-region=${aws_region}/year=${year}/\
                 month=${month}/day=${day}/hour=${hour}/"
            }
        }
    };
    (columns, folders, pairs)
}

#[cfg(test)]
mod tests {
    use crate::{
        record::Format,
        schema::{Layout, Reader},
        sink::{Output, Partition},
    };

    /// Columns of versions 2 to 5 as AWS declares them ("Create tables for flow logs in Apache
    /// Parquet format", Athena User Guide).
    const PUBLISHED: &str = "version int, account_id string, interface_id string, srcaddr string, dstaddr string, \
        srcport int, dstport int, protocol bigint, packets bigint, bytes bigint, start bigint, end bigint, \
        action string, log_status string, vpc_id string, subnet_id string, instance_id string, tcp_flags int, \
        type string, pkt_srcaddr string, pkt_dstaddr string, region string, az_id string, \
        sublocation_type string, sublocation_id string, pkt_src_aws_service string, pkt_dst_aws_service string, \
        flow_direction string, traffic_path int";

    #[test]
    fn columns_have_the_types_that_aws_declares() {
        let format = Format::all();
        for output in [Output::Text, Output::Parquet] {
            let layout = Layout {
                format: &format,
                output,
                partition: Partition::Daily,
                place: "s3://logs".into(),
                endpoint: None,
                account: None,
                region: None,
            };
            let table = layout.print(Reader::Athena).unwrap();
            let declared: Vec<String> = table
                .lines()
                .filter_map(|line| line.trim().strip_prefix('`'))
                .map(|line| line.trim_end_matches(',').replacen('`', "", 1))
                .collect();
            for column in PUBLISHED.split(", ") {
                assert!(declared.iter().any(|it| it == column), "{column} in {declared:?}");
            }
        }
    }
}
