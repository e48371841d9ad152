use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;

use super::{super::values::size, optional_bytes};
use crate::sink::Checksum;

/// Settings of the delivery of finished files.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Delivery")]
#[serde(rename_all = "kebab-case")]
pub struct DeliverySettings {
    /// Destination of finished files, which are then removed: `s3://BUCKET/PREFIX`, gs, az, or
    /// `file:///FOLDER`
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER")]
    pub deliver: Option<String>,
    /// URL of an S3 service other than Amazon's
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER_ENDPOINT")]
    pub deliver_endpoint: Option<String>,
    /// KMS key for objects in S3: ID, ARN or alias [default: the bucket's setting]
    #[arg(long, value_name = "KEY", env = "OBSERVER_DELIVER_KMS_KEY")]
    pub deliver_kms_key: Option<String>,
    /// Checksum sent to S3 with each object; buckets with Object Lock require one [default: sha256]
    #[arg(long, value_name = "ALGORITHM", env = "OBSERVER_DELIVER_CHECKSUM")]
    pub deliver_checksum: Option<Checksum>,
    /// Maximum size of files that wait for delivery or are refused; beyond it the oldest are
    /// dropped [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_SPOOL_SIZE", value_parser = size)]
    #[serde(serialize_with = "optional_bytes")]
    pub spool_size: Option<ByteSize>,
}

impl DeliverySettings {
    /// Flag of a setting that has no effect without `--deliver`.
    pub(in super::super) fn needs_destination(&self) -> Option<&'static str> {
        let given = [
            ("deliver-endpoint", self.deliver_endpoint.is_some()),
            ("deliver-kms-key", self.deliver_kms_key.is_some()),
            ("deliver-checksum", self.deliver_checksum.is_some()),
            ("spool-size", self.spool_size.is_some()),
        ];
        given.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }
}
