//! Writes capture files of Ethernet frames (draft-ietf-opsawg-pcap).

use std::io::{self, Write};

use crate::packets::Input;

/// Writes frames in order, each with its readable bytes and its length on the wire.
pub(crate) fn write<'a>(
    to: &mut impl Write,
    frames: impl Iterator<Item = &'a Input>,
) -> io::Result<()> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const VERSION: [u16; 2] = [2, 4];
    const SNAPSHOT_LENGTH: u32 = 0x4_0000;
    const ETHERNET: u32 = 1;
    to.write_all(&MAGIC.to_ne_bytes())?;
    for half in VERSION {
        to.write_all(&half.to_ne_bytes())?;
    }
    for word in [0, 0, SNAPSHOT_LENGTH, ETHERNET] {
        to.write_all(&word.to_ne_bytes())?;
    }
    for frame in frames {
        let (seconds, microseconds) = (0, 0);
        for word in [seconds, microseconds, frame.bytes.len() as u32, frame.frame.len] {
            to.write_all(&word.to_ne_bytes())?;
        }
        to.write_all(&frame.bytes)?;
    }
    Ok(())
}
