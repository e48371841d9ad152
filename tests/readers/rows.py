"""The rows that DuckDB, ClickHouse, pyarrow and the reader in flowlogs-reader read from record files, one JSON object a
line.

Usage: rows.py COLUMNS FORMAT=FOLDER=DUCKDB=CLICKHOUSE...

COLUMNS are names between commas. FORMAT is text, parquet or jsonl, FOLDER an output directory, the others files with
the databases' statements as `observer schema` prints them. Each line says which reader read which format and holds its
rows, sorted: a list of texts, null where there is no value.
"""

import glob
import gzip
import json
import sys

import chdb.session
import duckdb
import parquet
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

ENDINGS = {"text": "log.gz", "parquet": "log.parquet", "jsonl": "jsonl"}


def by_duckdb(columns, view):
    connection = duckdb.connect()
    with open(view) as statements:
        connection.execute(statements.read())
    names = ", ".join(f'"{column}"::VARCHAR' for column in columns)
    return connection.execute(f"SELECT {names} FROM flow_logs").fetchall()


def by_clickhouse(columns, view):
    session = chdb.session.Session()
    try:
        with open(view) as statements:
            session.query(statements.read())
        names = ", ".join(f"toString(`{column}`)" for column in columns)
        answer = session.query(f"SELECT {names} FROM flow_logs", "JSONCompactEachRow")
        return [json.loads(line) for line in str(answer).splitlines()]
    finally:
        session.close()


def of_text(file):
    with gzip.open(file) as content:
        names = content.readline().decode().rstrip("\n").split(" ")
        if not content.read(1):
            return []
    options = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, null_values=["-"], strings_can_be_null=True
    )
    table = pyarrow.csv.read_csv(
        file, parse_options=pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False), convert_options=options
    )
    return table.rename_columns([name.replace("-", "_") for name in names]).to_pylist()


def by_pyarrow(columns, kind, folder):
    rows = []
    for file in sorted(glob.glob(f"{folder}/AWSLogs/**/*.{ENDINGS[kind]}", recursive=True)):
        if kind == "text":
            rows += of_text(file)
        elif kind == "parquet":
            rows += pyarrow.parquet.ParquetFile(file).read().to_pylist()
        else:
            rows += pyarrow.json.read_json(file).to_pylist()
    return [[row.get(column) for column in columns] for row in rows]


def by_flowlogs_reader(columns, folder):
    """In pure Python, and the strictest: it knows the first version of Parquet alone."""
    rows = []
    for file in sorted(glob.glob(f"{folder}/AWSLogs/**/*.{ENDINGS['parquet']}", recursive=True)):
        with open(file, "rb") as content:
            rows += [[row.get(column) for column in columns] for row in parquet.DictReader(content)]
    return rows


def normal(rows):
    rows = [[None if value is None else str(value) for value in row] for row in rows]
    return sorted(rows, key=lambda row: [value or "" for value in row])


columns = sys.argv[1].split(",")
for argument in sys.argv[2:]:
    kind, folder, duckdb_view, clickhouse_view = argument.split("=")
    answers = [
        ("duckdb", by_duckdb(columns, duckdb_view)),
        ("clickhouse", by_clickhouse(columns, clickhouse_view)),
        ("pyarrow", by_pyarrow(columns, kind, folder)),
    ]
    if kind == "parquet":
        answers.append(("flowlogs-reader", by_flowlogs_reader(columns, folder)))
    for reader, rows in answers:
        print(json.dumps({"reader": reader, "format": kind, "rows": normal(rows)}))
