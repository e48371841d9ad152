//! Encoding of netlink requests, and iterators over messages and their attributes.
//!
//! Written by hand, because crates that decode every attribute reject a whole message for one
//! unreadable attribute, and the name, alias and alternative names of an interface may be any
//! bytes. This module decodes only requested attributes.

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Length of `struct rtattr`.
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED | NLA_F_NET_BYTEORDER`, which some kernels set in the type of an attribute.
const TYPE_FLAGS: u16 = 0xc000;

/// Length with padding to a multiple of four.
const fn aligned(len: usize) -> usize {
    (len + 3) & !3
}

/// A request that is being built.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Starts a request of this type, with the header of its family.
    pub(super) fn new(kind: u16, flags: i32, family_header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        bytes.extend_from_slice(family_header);
        bytes.resize(aligned(bytes.len()), 0);
        Self { bytes }
    }

    /// Adds an attribute.
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds an attribute that contains others.
    #[must_use]
    pub(super) fn with_nested(mut self, kind: u16, inner: &[(u16, &[u8])]) -> Self {
        let start = self.bytes.len();
        self.put(kind, &[]);
        for (kind, value) in inner {
            self.put(*kind, value);
        }
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Appends an attribute.
    fn put(&mut self, kind: u16, value: &[u8]) {
        let len = (ATTRIBUTE + value.len()) as u16;
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// Completes the message with a sequence number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Bytes after the header.
    pub(super) payload: &'a [u8],
}

/// Error of bytes that do not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Iterator over the messages of a datagram. It ends after the first message with an invalid
/// length.
#[derive(Debug)]
pub(super) struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    pub(super) const fn of(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let len = u32_at(bytes, 0).map_or(0, |len| len as usize);
        if len < HEADER || len > bytes.len() {
            return Some(Err(Malformed));
        }
        self.0 = bytes.get(aligned(len)..).unwrap_or_default();
        let (Some(kind), Some(flags), Some(sequence)) =
            (u16_at(bytes, 4), u16_at(bytes, 6), u32_at(bytes, 8))
        else {
            return Some(Err(Malformed));
        };
        Some(Ok(Message { kind, flags, sequence, payload: &bytes[HEADER..len] }))
    }
}

/// Iterator over attributes: type and value of each. It ends after the first one with an invalid
/// length.
#[derive(Clone, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Value of the first attribute of a type.
    pub(super) fn get(self, wanted: u16) -> Option<&'a [u8]> {
        self.map_while(Result::ok).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let (Some(len), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) else {
            return Some(Err(Malformed));
        };
        let len = usize::from(len);
        if len < ATTRIBUTE || len > bytes.len() {
            return Some(Err(Malformed));
        }
        self.0 = bytes.get(aligned(len)..).unwrap_or_default();
        Some(Ok((kind & !TYPE_FLAGS, &bytes[ATTRIBUTE..len])))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Text of a C string, up to its terminating zero. Bytes that are not UTF-8 are written as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let mut text = String::new();
    for chunk in bytes[..end].utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_built() {
        let request = Request::new(18, libc::NLM_F_DUMP, &[7; 5])
            .with(1, b"abc")
            .with_nested(2, &[(3, &[4, 5]), (6, &[])])
            .finish(9);
        let messages: Vec<_> = Messages::of(&request).map(Result::unwrap).collect();
        let [message] = messages[..] else { panic!("{messages:?}") };
        assert_eq!((message.kind, message.sequence), (18, 9));
        assert_eq!(i32::from(message.flags), libc::NLM_F_REQUEST | libc::NLM_F_DUMP);
        assert_eq!(message.payload[..8], [7, 7, 7, 7, 7, 0, 0, 0]);
        let attributes = Attributes::of(&message.payload[8..]);
        assert_eq!(attributes.clone().get(1), Some(&b"abc"[..]));
        let inner: Vec<_> =
            Attributes::of(attributes.get(2).unwrap()).map(Result::unwrap).collect();
        assert_eq!(inner, [(3, &[4, 5][..]), (6, &[][..])]);
    }

    #[test]
    fn malformed_bytes_end_the_iteration_with_an_error() {
        let good = Request::new(18, 0, &[]).with(1, b"x").finish(1);
        for cut in 1..good.len() {
            let last = Messages::of(&good[..cut]).last().unwrap();
            assert_eq!(last.map(|message| message.kind), Err(Malformed), "{cut} bytes");
        }
        assert_eq!(Messages::of(&[good.clone(), vec![0; 16]].concat()).count(), 2);
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 1], &[4], &[0; 4]] {
            let walked: Vec<_> = Attributes::of(bytes).collect();
            assert_eq!(walked, [Err(Malformed)], "{bytes:?}");
        }
        // The last attribute needs no padding.
        assert_eq!(Attributes::of(&[5, 0, 1, 0, 77]).collect::<Vec<_>>(), [Ok((1, &[77][..]))]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_escaped() {
        assert_eq!(printable(b"eth0\0rest"), "eth0");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
        assert_eq!(printable(b"caf\xe9-\xff\xfe0"), "caf\\xe9-\\xff\\xfe0");
    }
}
