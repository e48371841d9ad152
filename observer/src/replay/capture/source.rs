//! Interfaces of a capture, and their clocks.

use jiff::Timestamp;
use pcap_parser::{OptionCode, PcapHeader, PcapNGOption};

use super::options;

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::replay) struct Source {
    /// Number of the section that describes it, and its number in that section.
    pub(in crate::replay) number: (usize, usize),
    /// Name, if the capture has one.
    pub(in crate::replay) name: Option<String>,
    /// `LINKTYPE_` number.
    pub(in crate::replay) link_type: u16,
    pub(super) times: Times,
}

/// Unit and origin of an interface's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// Units per second; 0 if the capture gives a resolution out of range.
    pub(super) resolution: u128,
    /// Seconds to add.
    offset: i64,
}

impl Source {
    /// The interface of a pcap file.
    pub(super) fn of_pcap(header: &PcapHeader) -> Self {
        let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
        Self {
            number: (0, 0),
            name: None,
            // The upper half of the field holds other values.
            link_type: header.network.0 as u16,
            times: Times { resolution, offset: 0 },
        }
    }
}

impl Times {
    /// The clock that the options of an interface describe.
    pub(super) fn of_pcapng(options: &[PcapNGOption<'_>], big_endian: bool) -> Self {
        const MICROSECONDS: u64 = 6;
        const BINARY: u32 = 0x80;
        let exponent = options::number(options, OptionCode::IfTsresol, big_endian)
            .unwrap_or(MICROSECONDS) as u32;
        let (base, exponent) =
            if exponent & BINARY == 0 { (10_u128, exponent) } else { (2, exponent - BINARY) };
        Self {
            resolution: base.checked_pow(exponent).unwrap_or(0),
            offset: options::number(options, OptionCode::IfTsoffset, big_endian).unwrap_or(0)
                as i64,
        }
    }

    /// UNIX milliseconds of a timestamp; `None` if it is out of range.
    pub(super) fn unix_ms(self, ticks: u128) -> Option<i64> {
        let ms = ticks.checked_mul(1000)?.checked_div(self.resolution)?;
        let ms = i128::try_from(ms).ok()? + i128::from(self.offset) * 1000;
        // `Timestamp` ends with the year 9999.
        (0..=Timestamp::MAX.as_millisecond().into()).contains(&ms).then_some(ms as i64)
    }
}
