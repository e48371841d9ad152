//! Options of pcapng blocks.

use observer_ebpf::abi::Direction;
use pcap_parser::{OptionCode, PcapNGOption};

/// The direction in `epb_flags`, its lowest two bits.
pub(super) fn direction(options: &[PcapNGOption<'_>], big_endian: bool) -> Option<Direction> {
    const EPB_FLAGS: OptionCode = OptionCode(2);
    match number(options, EPB_FLAGS, big_endian)? & 3 {
        1 => Some(Direction::Ingress),
        2 => Some(Direction::Egress),
        _ => None,
    }
}

/// The value of a numeric option of 1, 4 or 8 bytes, in the byte order of its section.
pub(super) fn number(
    options: &[PcapNGOption<'_>],
    code: OptionCode,
    big_endian: bool,
) -> Option<u64> {
    let option = options.iter().find(|option| option.code == code)?;
    let bytes = option.as_bytes().ok().filter(|bytes| bytes.len() <= 8)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
}

/// The interface name in `if_name`; `None` if it is empty, as in merged captures.
pub(super) fn name(options: &[PcapNGOption<'_>]) -> Option<String> {
    let option = options.iter().find(|option| option.code == OptionCode::IfName)?;
    let name = String::from_utf8_lossy(option.as_bytes().ok()?);
    // Names are written to text records, which readers split at spaces.
    let name = name
        .trim_end_matches('\0')
        .replace(|c: char| c.is_whitespace() || c.is_control() || c == '"', "_");
    Some(name).filter(|name| !name.is_empty())
}
