"""The rows that flowlogs-reader reads from a bucket, with nothing left out, one JSON object a line.

Usage: bucket.py ENDPOINT BUCKET/PREFIX

It finds text and Parquet alike by their keys: accounts, regions and days by the folders, times by the names.
"""

import datetime
import json
import sys

import boto3
import flowlogs_reader

endpoint, location = sys.argv[1:]
client = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="eu-west-1",
    aws_access_key_id="observer",
    aws_secret_access_key="observer",
)
# By default it reads the last hour alone, and passes over a file of the five minutes that begin it.
hour = datetime.timedelta(hours=1)
now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
reader = flowlogs_reader.S3FlowLogsReader(
    location, boto_client=client, start_time=now - hour, end_time=now + hour, raise_on_error=True
)
for record in reader:
    print(json.dumps(record.to_dict(), default=str))
assert reader.skipped_records == 0
