//! Decoding of text files: UTF-8, with or without a byte-order mark.

/// Error of decoding a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// Another encoding, identified by the first bytes.
    #[error("it is in {0}: save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)")]
    Other(&'static str),
    /// An unknown encoding, or binary data.
    #[error("line {line} is not UTF-8: save the file as UTF-8")]
    NotUtf8 {
        /// Line number, from 1.
        line: usize,
    },
}

/// Decodes a text file, without its byte-order mark.
pub fn utf8(bytes: &[u8]) -> Result<&str, EncodingError> {
    if let Some(name) = other_encoding(bytes) {
        return Err(EncodingError::Other(name));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        EncodingError::NotUtf8 { line: before.split(|byte| *byte == b'\n').count() }
    })
}

/// Identifies another encoding by its byte-order mark, or by zeros among the first two characters,
/// which are ASCII in every file read by the daemon.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0xff, 0xfe, 0, 0, ..] | [_, 0, 0, 0, ..] => "UTF-32 (little-endian)",
        [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] => "UTF-32 (big-endian)",
        [0xff, 0xfe, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..] => "UTF-16 (little-endian)",
        [0xfe, 0xff, ..] | [0, 1..=0x7f, 0, 1..=0x7f, ..] => "UTF-16 (big-endian)",
        [0x1f, 0x8b, ..] => "gzip",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_of_utf8_is_no_part_of_the_text() {
        assert_eq!(utf8(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(utf8("{\"é\"}".as_bytes()), Ok("{\"é\"}"));
        assert_eq!(utf8(b""), Ok(""));
    }

    #[test]
    fn other_encodings_are_named() {
        for text in ["\u{feff}{}", "{ }", "{}"] {
            let units = || text.encode_utf16();
            let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
            assert_eq!(
                utf8(&little),
                Err(EncodingError::Other("UTF-16 (little-endian)")),
                "{text:?}"
            );
            let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
            assert_eq!(utf8(&big), Err(EncodingError::Other("UTF-16 (big-endian)")), "{text:?}");
        }
        let thirty_two: Vec<u8> =
            "\u{feff}{}".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        assert_eq!(utf8(&thirty_two), Err(EncodingError::Other("UTF-32 (little-endian)")));
        assert_eq!(utf8(b"\x1f\x8b\x08\0"), Err(EncodingError::Other("gzip")));
        assert_eq!(utf8(b"{\n\"\xe9\"}"), Err(EncodingError::NotUtf8 { line: 2 }));
    }
}
