//! Names of kernel versions: `5.10`, or `newest`.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::host;

/// A kernel version to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The newest kernel of a series, such as 6.1.
    Series(u32, u32),
    /// The newest kernel of all suites.
    Newest,
}

const NEWEST: &str = "newest";

impl Version {
    /// True if a kernel of this full version, such as `6.1.192-2`, matches.
    pub(super) fn includes(self, full: &str) -> bool {
        match self {
            Self::Series(major, minor) => host::version_in(full) == Some((major, minor)),
            Self::Newest => true,
        }
    }
}

/// Text that names no kernel version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a kernel is named by its series, such as 6.1, or `newest`")]
pub(crate) struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        if text == NEWEST {
            return Ok(Self::Newest);
        }
        match text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse())) {
            Some((Ok(major), Ok(minor))) => Ok(Self::Series(major, minor)),
            _ => Err(UnknownVersion),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Series(major, minor) => write!(f, "{major}.{minor}"),
            Self::Newest => f.write_str(NEWEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_series_or_the_newest() {
        for text in ["5.10", "6.1", "newest"] {
            assert_eq!(text.parse::<Version>().unwrap().to_string(), text);
        }
        for text in ["", "6", "6.1.192", "6.x", "latest"] {
            assert!(text.parse::<Version>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_series_is_no_prefix() {
        assert!(Version::Series(6, 1).includes("6.1.192-2"));
        assert!(!Version::Series(6, 1).includes("6.12.117-1"));
        assert!(Version::Newest.includes("7.2.12-1~bpo13+1"));
    }
}
