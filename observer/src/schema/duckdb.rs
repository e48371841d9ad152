//! A view of DuckDB over all files.

use std::fmt::Write as _;

use super::{
    layout::Layout,
    sql::{columns, quoted},
};
use crate::sink::{Output, Partition};

pub(super) fn view(layout: &Layout<'_>) -> String {
    let mut text = secret(layout);
    let files = quoted(&layout.glob());
    let hive = layout.is_hive();
    let types = || {
        columns(&layout.columns(), ["INTEGER", "BIGINT", "VARCHAR"], |text, name, kind| {
            let _ = write!(text, "{}: {}", quoted(name), quoted(kind));
        })
    };
    let rows = match layout.output {
        Output::Text => format!(
            "read_csv({files}, delim = ' ', quote = '', escape = '', header = true, nullstr = '-', compression = 'gzip',\n\
             auto_detect = false, hive_partitioning = {hive}, columns = {{\n{}\n}})",
            types()
        ),
        Output::Parquet => {
            format!("read_parquet({files}, union_by_name = true, hive_partitioning = {hive})")
        }
        Output::Jsonl | Output::Stdout => format!(
            "read_json({files}, format = 'newline_delimited', hive_partitioning = {hive}, columns = {{\n{}\n}})",
            types()
        ),
    };
    // DuckDB opens no folder whose named value a query excludes.
    let folders: &[&str] = match layout.partition {
        Partition::Daily | Partition::Hourly => &[],
        Partition::Hive => &["year", "month", "day"],
        Partition::HiveHourly => &["year", "month", "day", "hour"],
    };
    let names =
        layout.columns().into_iter().map(|column| column.name).chain(folders.iter().copied());
    let names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    let _ = write!(
        text,
        "CREATE OR REPLACE VIEW flow_logs AS\nSELECT {}\nFROM {rows};\n",
        names.join(", ")
    );
    text
}

/// Access to the bucket with the credentials of the environment or the instance.
fn secret(layout: &Layout<'_>) -> String {
    let Some((bucket, _)) = layout.s3() else { return String::new() };
    let mut options = vec!["TYPE s3".to_owned(), "PROVIDER credential_chain".to_owned()];
    options.push(format!("SCOPE {}", quoted(&format!("s3://{bucket}"))));
    options.extend(layout.region.map(|region| format!("REGION {}", quoted(region))));
    if let Some(endpoint) = layout.endpoint {
        let (scheme, address) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        options.push(format!("ENDPOINT {}", quoted(address)));
        options.push("URL_STYLE 'path'".into());
        options.push(format!("USE_SSL {}", scheme == "https"));
    }
    format!(
        "INSTALL httpfs;\nLOAD httpfs;\nINSTALL aws;\nLOAD aws;\nCREATE OR REPLACE SECRET flow_logs ({});\n",
        options.join(", ")
    )
}
