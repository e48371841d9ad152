//! Where a record's file lies and what it is called: as VPC Flow Logs publishes to S3 ("Flow log files").

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    flow::InterfaceNumber,
    record::{Record, Value},
    tasks::Attribute,
};

/// Seconds of records in one file, by their `end`.
pub(super) const SLOT: i64 = 300;
/// What stands in names where no source knows the account: AWS's readers want twelve digits.
pub const NO_ACCOUNT: &str = "000000000000";
/// Likewise for the region.
pub const NO_REGION: &str = "local";

/// Whether a text is an account's id: it becomes the name of a folder.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text can be a region's name: likewise.
pub fn is_region(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(letter)
}

/// Which folders files lie in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partition {
    /// `AWSLogs/ACCOUNT/vpcflowlogs/REGION/YYYY/MM/DD`
    #[default]
    Daily,
    /// One folder more for each hour.
    Hourly,
    /// `AWSLogs/aws-account-id=ACCOUNT/…/day=DD`
    Hive,
    /// One folder more for each hour.
    HiveHourly,
}

/// What goes into one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    /// UNIX seconds: five minutes of record ends.
    pub(super) start: i64,
    pub(super) place: Arc<Place>,
}

/// An account and a region.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    account: Box<str>,
    region: Box<str>,
}

/// The places of the interfaces of a window, so that no record needs their texts.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: Vec<Arc<Place>>,
    by_interface: Vec<Option<u16>>,
}

impl Places {
    /// Where a record of an interface goes: the start of its slot, and the place.
    pub(super) fn of(&mut self, interface: InterfaceNumber, record: &Record<'_>) -> (i64, &Arc<Place>) {
        let number = usize::from(interface.get());
        if number >= self.by_interface.len() {
            self.by_interface.resize(number + 1, None);
        }
        let place = match self.by_interface[number] {
            Some(place) => place,
            None => self.find(Place::of(record)),
        };
        self.by_interface[number] = Some(place);
        (record.end().div_euclid(SLOT) * SLOT, &self.known[usize::from(place)])
    }

    fn find(&mut self, place: Place) -> u16 {
        let found = self.known.iter().position(|known| **known == place).unwrap_or_else(|| {
            self.known.push(Arc::new(place));
            self.known.len() - 1
        });
        found as u16
    }
}

impl Place {
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
    /// Whether no record that is yet to come can end in it.
    pub(super) const fn is_over(&self, time: i64) -> bool {
        self.start + SLOT <= time
    }

    /// The folder of its file.
    pub(super) fn folder(&self, base: &Path, partition: Partition) -> PathBuf {
        let Place { account, region } = &*self.place;
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

    /// The name of its file, without what makes it unique and its ending.
    pub(super) fn stem(&self, flow_log_id: &str) -> String {
        let Place { account, region } = &*self.place;
        let time = self.time().strftime("%Y%m%dT%H%MZ");
        format!("{account}_vpcflowlogs_{region}_{flow_log_id}_{time}")
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.start).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_names_are_those_of_aws() {
        let place = Arc::new(Place { account: "123456789012".into(), region: "us-east-1".into() });
        // 2018-06-20T16:20:00Z
        let slot = Slot { start: 1_529_511_600, place };
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
    fn nothing_but_accounts_and_regions_become_folders() {
        assert!(is_account("000000000001") && is_region("us-gov-west-1"));
        for text in ["", "12345678901", "1234567890123", "12345678901x", "../../etc/pa"] {
            assert!(!is_account(text), "{text}");
        }
        for text in ["", "..", "us/east", "US-EAST-1", &"x".repeat(33)] {
            assert!(!is_region(text), "{text}");
        }
    }
}
