//! Folders and names of record files, as VPC Flow Logs publishes to S3 (AWS, "Flow log files").

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    flow::InterfaceNumber,
    record::{Record, Value},
    tasks::Attribute,
};

/// Seconds of records in one file, by their field `end`.
pub(super) const SLOT: i64 = 300;
/// Account ID in file names if no source provides one. AWS's readers require twelve digits.
pub const NO_ACCOUNT: &str = "000000000000";
/// Region in file names if no source provides one.
pub const NO_REGION: &str = "local";

/// True for twelve digits. The text becomes the name of a folder.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for 1 to 32 lower-case letters, digits and hyphens. The text becomes the name of a folder.
pub fn is_region(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(letter)
}

/// Layout of the folders of record files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    /// …/YYYY/MM/DD
    #[default]
    #[value(name = "none")]
    #[serde(rename = "none")]
    Daily,
    /// …/YYYY/MM/DD/HH
    Hourly,
    /// …/year=YYYY/month=MM/day=DD
    Hive,
    /// …/year=YYYY/month=MM/day=DD/hour=HH
    HiveHourly,
}

/// The records of one file: five minutes of one account and region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    /// Start of the five minutes, in UNIX seconds.
    pub(super) start: i64,
    pub(super) owner: Arc<Owner>,
}

/// An account and a region.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    account: Box<str>,
    region: Box<str>,
}

/// The owners of the interfaces of a window, by interface number, so that they are compared once
/// for each interface.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: Vec<Arc<Owner>>,
    by_interface: Vec<Option<u16>>,
}

impl Owners {
    /// The start of a record's slot, in UNIX seconds, and its owner.
    pub(super) fn of(&mut self, interface: InterfaceNumber, record: &Record<'_>) -> (i64, &Arc<Owner>) {
        let number = usize::from(interface.get());
        if number >= self.by_interface.len() {
            self.by_interface.resize(number + 1, None);
        }
        let index = match self.by_interface[number] {
            Some(index) => index,
            None => self.find(Owner::of(record)),
        };
        self.by_interface[number] = Some(index);
        (record.end().div_euclid(SLOT) * SLOT, &self.known[usize::from(index)])
    }

    fn find(&mut self, owner: Owner) -> u16 {
        let found = self.known.iter().position(|known| **known == owner).unwrap_or_else(|| {
            self.known.push(Arc::new(owner));
            self.known.len() - 1
        });
        found as u16
    }
}

impl Owner {
    fn of(record: &Record<'_>) -> Self {
        let known = |attribute, is_one: fn(&str) -> bool, or: &str| match record.known(attribute) {
            Value::Text(text) if is_one(text) => text.into(),
            _ => or.into(),
        };
        Self {
            account: known(Attribute::AccountId, is_account, NO_ACCOUNT),
            region: known(Attribute::Region, is_region, NO_REGION),
        }
    }
}

impl Slot {
    /// True if no later record can belong to this slot.
    pub(super) const fn is_over(&self, time: i64) -> bool {
        self.start + SLOT <= time
    }

    /// Folder of the file.
    pub(super) fn folder(&self, base: &Path, partition: Partition) -> PathBuf {
        let Owner { account, region } = &*self.owner;
        let base = base.join("AWSLogs");
        let plain = || base.join(&**account).join("vpcflowlogs").join(&**region);
        let hive = || {
            base.join(format!("aws-account-id={account}"))
                .join("aws-service=vpcflowlogs")
                .join(format!("aws-region={region}"))
        };
        let (folder, dates) = match partition {
            Partition::Daily => (plain(), "%Y/%m/%d"),
            Partition::Hourly => (plain(), "%Y/%m/%d/%H"),
            Partition::Hive => (hive(), "year=%Y/month=%m/day=%d"),
            Partition::HiveHourly => (hive(), "year=%Y/month=%m/day=%d/hour=%H"),
        };
        folder.join(self.time().strftime(dates).to_string())
    }

    /// Name of the file, without its random part and its extension.
    pub(super) fn stem(&self, flow_log_id: &str) -> String {
        let Owner { account, region } = &*self.owner;
        let time = self.time().strftime("%Y%m%dT%H%MZ");
        format!("{account}_vpcflowlogs_{region}_{flow_log_id}_{time}")
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// All files below the folders of an output directory.
pub(super) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![directory.join("AWSLogs")];
    while let Some(folder) = folders.pop() {
        // A folder that cannot be listed is skipped: its files can be neither finished nor
        // delivered.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_names_are_those_of_aws() {
        let owner = Arc::new(Owner { account: "123456789012".into(), region: "us-east-1".into() });
        // 2018-06-20T16:20:00Z
        let slot = Slot { start: 1_529_511_600, owner };
        assert_eq!(slot.stem("fl-1234abcd"), "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z");
        let base = Path::new("/x");
        for (partition, folder) in [
            (Partition::Daily, "/x/AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20"),
            (Partition::Hourly, "/x/AWSLogs/123456789012/vpcflowlogs/us-east-1/2018/06/20/16"),
            (
                Partition::Hive,
                "/x/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=us-east-1/year=2018/month=06/\
                 day=20",
            ),
            (
                Partition::HiveHourly,
                "/x/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=us-east-1/year=2018/month=06/\
                 day=20/hour=16",
            ),
        ] {
            assert_eq!(slot.folder(base, partition), Path::new(folder));
        }
        assert!(!slot.is_over(slot.start + SLOT - 1) && slot.is_over(slot.start + SLOT));
    }

    #[test]
    fn only_accounts_and_regions_become_folders() {
        assert!(is_account("000000000001") && is_region("us-gov-west-1"));
        for text in ["", "12345678901", "1234567890123", "12345678901x", "../../etc/pa"] {
            assert!(!is_account(text), "{text}");
        }
        for text in ["", "..", "us/east", "US-EAST-1", &"x".repeat(33)] {
            assert!(!is_region(text), "{text}");
        }
    }
}
