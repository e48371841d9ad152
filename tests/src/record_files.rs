//! Files below the output directory, and their names in AWS's layout.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{civil::DateTime, tz::TimeZone};

/// Finished files with this extension, sorted. Unfinished files begin with a dot.
pub fn finished(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let files = all_files(directory)?;
    let finished = files.into_iter().filter(|file| {
        let name = name_of(file);
        !name.starts_with('.') && name.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'))
    });
    Ok(finished.collect())
}

/// Unfinished files.
pub fn unfinished(directory: &Path) -> Result<Vec<PathBuf>> {
    let files = all_files(directory)?;
    Ok(files.into_iter().filter(|file| name_of(file).starts_with('.')).collect())
}

fn name_of(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The information in a file's path (AWS, "Flow log files").
#[derive(Debug)]
pub struct FileName {
    /// Account ID.
    pub account: String,
    /// Region of the file.
    pub region: String,
    /// UNIX seconds. The file contains records that end in the five minutes from this time.
    pub time: i64,
}

impl FileName {
    /// Parses
    /// `AWSLogs/<account>/vpcflowlogs/<region>/<Y>/<M>/<D>/<account>_vpcflowlogs_<region>_<id>_<time>_<hash>`.
    pub fn parse(base: &Path, file: &Path) -> Result<Self> {
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let path = file.strip_prefix(base)?.to_str().context("a name in UTF-8")?;
        let parts: Vec<&str> = path.split('/').collect();
        let ["AWSLogs", account, "vpcflowlogs", region, year, month, day, name] = parts[..] else {
            bail!("{path} has other folders than AWS's");
        };
        ensure!(
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()),
            "account {account}"
        );
        let region_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(!region.is_empty() && region.bytes().all(region_byte), "region {region}");
        let (stem, _) = name.split_once('.').context("an ending")?;
        let parts: Vec<&str> = stem.split('_').collect();
        let [name_account, "vpcflowlogs", name_region, id, time, hash] = parts[..] else {
            bail!("{name} has other parts than AWS's");
        };
        ensure!(
            (name_account, name_region) == (account, region),
            "{name} lies in the wrong folder"
        );
        let id = id.strip_prefix("fl-").context("a flow log id")?;
        ensure!((8..=17).contains(&id.len()) && hex(id), "flow log id fl-{id}");
        ensure!(hash.len() == 8 && hex(hash), "hash {hash}");
        let moment =
            DateTime::strptime("%Y%m%dT%H%MZ", time).with_context(|| format!("time {time}"))?;
        ensure!(
            moment.strftime("%Y/%m/%d").to_string() == format!("{year}/{month}/{day}"),
            "{path}"
        );
        ensure!(moment.minute() % 5 == 0, "{time} is not at five minutes");
        let time = moment.to_zoned(TimeZone::UTC)?.timestamp().as_second();
        Ok(Self { account: account.to_owned(), region: region.to_owned(), time })
    }

    /// Returns an error unless a record that ends at `end` belongs to the file.
    pub fn check(&self, end: i64) -> Result<()> {
        ensure!(
            (self.time..self.time + 300).contains(&end),
            "{end} is outside of the file's five minutes"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/x/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/06/10";

    fn name(name: &str) -> Result<FileName> {
        FileName::parse(Path::new("/x"), &Path::new(FOLDER).join(name))
    }

    #[test]
    fn file_names_are_those_of_aws() {
        let good = "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20260610T1620Z_fe123456.log.gz";
        let file = name(good).unwrap();
        assert_eq!(file.time, 1_781_108_400);
        file.check(file.time + 299).unwrap();
        file.check(file.time + 300).unwrap_err();
        for (part, instead) in [
            ("123456789012", "12345678901"),
            ("us-east-1", "eu-west-1"),
            ("fl-1234abcd", "fl-12"),
            ("T1620Z", "T1621Z"),
            ("20260610", "20260611"),
            ("fe123456", "fe12345"),
            ("fe123456", "FE123456"),
            ("vpcflowlogs", "vpcflowlog"),
        ] {
            name(&good.replace(part, instead)).unwrap_err();
        }
    }
}
