use std::sync::Arc;

use ipnet::IpNet;

use super::{Filter, Format, ServiceRanges};

/// What the user said of all records.
#[derive(Clone, Debug)]
pub struct Context {
    /// The fields of text and Parquet, and `version` everywhere.
    pub format: Format,
    /// The account, where no source knows it.
    pub account_id: Option<Box<str>>,
    /// The region, likewise.
    pub region: Option<Box<str>>,
    /// The VPC's addresses, the primary block first.
    pub vpc: Vec<IpNet>,
    /// The addresses of AWS's services.
    pub services: Option<Arc<ServiceRanges>>,
    /// Leave out what AWS never logs.
    pub aws_parity: bool,
    /// Leave out what the user does not want.
    pub filter: Filter,
    /// Leave out NODATA.
    pub no_nodata: bool,
}

impl Context {
    /// Records of this format, with nothing said beyond it.
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

    /// Whether there may be records that are not written.
    pub const fn leaves_out(&self) -> bool {
        self.aws_parity || !self.filter.is_empty()
    }
}
