use std::sync::Arc;

use ipnet::IpNet;

use super::{Filter, Format, ServiceRanges};

/// Settings of all records.
#[derive(Clone, Debug)]
pub struct Context {
    /// Fields of text and Parquet. Determines `version` in every format.
    pub format: Format,
    /// Account ID to use when no source provides one.
    pub account_id: Option<Box<str>>,
    /// Region to use when no source provides one.
    pub region: Option<Box<str>>,
    /// CIDR blocks of the VPC, the primary block first.
    pub vpc: Vec<IpNet>,
    /// Address ranges of AWS's services.
    pub services: Option<Arc<ServiceRanges>>,
    /// Omit traffic that AWS never logs.
    pub aws_parity: bool,
    /// Rules that select records.
    pub filter: Filter,
    /// Omit NODATA records.
    pub no_nodata: bool,
}

impl Context {
    /// Creates settings with this format and defaults for the rest.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            account_id: None,
            region: None,
            vpc: Vec::new(),
            services: None,
            aws_parity: false,
            filter: Filter::new(Vec::new()),
            no_nodata: false,
        }
    }

    /// True if some records may be excluded.
    pub const fn leaves_out(&self) -> bool {
        self.aws_parity || !self.filter.is_empty()
    }
}
