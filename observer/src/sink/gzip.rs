//! Gzip files of one member that are complete after every unit (RFC 1952).

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::files::{Encoded, Encoding};

/// Compresses each unit independently, so that a unit that fails to be written has no effect on the
/// next.
#[derive(Debug)]
pub(super) struct Gzip {
    /// First bytes of every file, uncompressed.
    head: Vec<u8>,
    deflate: Compress,
    out: Vec<u8>,
}

/// CRC and length of the uncompressed content, for the trailer.
#[derive(Debug, Default)]
pub(super) struct Checked(Crc);

/// Gzip header: deflate, no name, no time, Unix.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// An empty last block (RFC 1951, 3.2.6).
const LAST_BLOCK: [u8; 2] = [3, 0];

impl Gzip {
    /// Creates an encoder for files that begin with `head`.
    pub(super) fn new(head: Vec<u8>) -> Self {
        Self { head, deflate: Compress::new(Compression::fast(), false), out: Vec::new() }
    }

    /// Appends deflate blocks that end on a byte boundary and do not refer to earlier data.
    fn deflate(deflate: &mut Compress, mut input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        deflate.reset();
        loop {
            out.reserve(input.len() / 4 + 1024);
            let before = deflate.total_in();
            deflate.compress_vec(input, out, FlushCompress::Sync)?;
            input = &input[(deflate.total_in() - before) as usize..];
            // Free space in the output means that the compressor has no more output pending.
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(());
            }
        }
    }
}

impl Encoding<[u8]> for Gzip {
    type State = Checked;

    fn encode<'a>(
        &'a mut self,
        state: &Checked,
        offset: u64,
        unit: &'a [u8],
    ) -> io::Result<Encoded<'a, Checked>> {
        let Self { head, deflate, out } = self;
        let mut crc = Crc::new();
        crc.combine(&state.0);
        out.clear();
        if offset == 0 {
            out.extend_from_slice(&HEADER);
            Self::deflate(deflate, head, out)?;
            crc.update(head);
        }
        Self::deflate(deflate, unit, out)?;
        crc.update(unit);
        let body = out.len();
        out.extend_from_slice(&LAST_BLOCK);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(Encoded { bytes: out, body, state: Checked(crc) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::bufread::GzDecoder;

    use super::*;

    #[test]
    fn a_file_is_one_complete_member_after_every_unit() {
        let mut gzip = Gzip::new(b"head\n".to_vec());
        let (mut file, mut state, mut expected) =
            (Vec::new(), Checked::default(), b"head\n".to_vec());
        let long: Vec<u8> = (0..1 << 20)
            .map(|number: u32| (number.wrapping_mul(0x9e37_79b9) >> 27) as u8)
            .collect();
        let same = vec![b'x'; 100_000];
        for (number, unit) in [&b"one\n"[..], &same, &long, b"", b"last\n"].into_iter().enumerate()
        {
            // A unit that is encoded but not written must have no effect.
            gzip.encode(&state, file.len() as u64, b"lost").unwrap();
            let Encoded { bytes, body, state: next } =
                gzip.encode(&state, file.len() as u64, unit).unwrap();
            expected.extend_from_slice(unit);
            let whole = [&file[..], bytes].concat();
            let mut decoder = GzDecoder::new(&whole[..]);
            let mut text = Vec::new();
            decoder.read_to_end(&mut text).unwrap();
            assert!(text == expected, "unit {number}");
            assert_eq!(decoder.into_inner(), b"", "behind the member");
            file.extend_from_slice(&bytes[..body]);
            state = next;
        }
    }
}
