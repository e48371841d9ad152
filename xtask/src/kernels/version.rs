use std::{fmt, str::FromStr};

use crate::host;

/// Which kernel is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The newest of a series, such as 6.1.
    Series(u32, u32),
    /// The newest that can be had.
    Newest,
}

const NEWEST: &str = "newest";

impl Version {
    /// Whether a kernel of this full version is one of these.
    pub(super) fn includes(self, full: &str) -> bool {
        match self {
            Self::Series(major, minor) => host::version_in(full) == Some((major, minor)),
            Self::Newest => true,
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NEWEST {
            return Ok(Self::Newest);
        }
        match text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse())) {
            Some((Ok(major), Ok(minor))) => Ok(Self::Series(major, minor)),
            _ => Err(format!("a kernel is named by its series, such as 6.1, or `{NEWEST}`")),
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
