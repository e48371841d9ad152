//! Totals of records per interface, however the records are read.

use std::path::Path;

use anyhow::Result;

use crate::{
    address::Mac,
    records::Records,
    tally::{Crossed, Tally},
};

/// Records that can be summed per interface.
pub trait Sums: Sized {
    /// Reads the JSON lines below a directory.
    fn read(directory: &Path) -> Result<Self>;
    /// Packets and bytes of the flow records of an interface, per direction.
    fn recorded(&self, mac: Mac) -> Crossed;
    /// Packets and bytes of the SKIPDATA records of an interface, both directions together.
    fn lost(&self, mac: Mac) -> Tally;
}

impl Sums for Records {
    fn read(directory: &Path) -> Result<Self> {
        Self::read(directory)
    }

    fn recorded(&self, mac: Mac) -> Crossed {
        self.recorded(mac)
    }

    fn lost(&self, mac: Mac) -> Tally {
        self.lost(mac)
    }
}
