//! Errors of reading a capture.

use std::{fmt, io};

/// Error of opening or reading a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("{name}: {source}: give a pcap or pcapng file, or - for standard input")]
    Open {
        /// Name of the file.
        name: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not a capture.
    #[error("{name} is no pcap or pcapng capture: it {format}")]
    Foreign {
        /// Name of the file.
        name: String,
        /// The format that was found.
        format: ForeignFormat,
    },
    /// The file is damaged.
    #[error("{name}: at byte {offset}, behind packet {packets}: {defect}")]
    Broken {
        /// Name of the file.
        name: String,
        /// Offset of the block or record, in bytes.
        offset: u64,
        /// Number of packets before it.
        packets: u64,
        /// The damage.
        defect: Defect,
    },
}

/// Format of a file that is not a capture. Displays as a verb phrase, with advice where there is
/// any.
#[derive(Debug)]
pub enum ForeignFormat {
    /// The file is empty.
    Empty,
    /// The file ends within the header of a pcap file.
    CutHeader,
    /// The file is compressed; this program decompresses it.
    Compressed(&'static str),
    /// The file begins with these unknown bytes, four at most.
    Unknown(Vec<u8>),
}

impl ForeignFormat {
    /// Recognises a file by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        const COMPRESSED: [(&[u8], &str); 4] = [
            (&[0x1f, 0x8b], "zcat"),
            (&[0x28, 0xb5, 0x2f, 0xfd], "zstdcat"),
            (&[0xfd, b'7', b'z', b'X'], "xzcat"),
            (b"BZh", "bzcat"),
        ];
        if bytes.is_empty() {
            return Self::Empty;
        }
        match COMPRESSED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            Some((_, program)) => Self::Compressed(program),
            None => Self::Unknown(bytes.iter().take(4).copied().collect()),
        }
    }
}

impl fmt::Display for ForeignFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::CutHeader => f.write_str("ends within its header"),
            Self::Compressed(program) => {
                write!(
                    f,
                    "is compressed: pipe it through `{program}`, and give - for standard input"
                )
            }
            Self::Unknown(bytes) => {
                let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(
                    f,
                    "begins with {}: give what `tcpdump -w` or Wireshark has written",
                    bytes.join(" ")
                )
            }
        }
    }
}

/// Damage of a capture.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// The file cannot be read any further.
    #[error("{0}")]
    Io(io::Error),
    /// The file ends within the header of a packet.
    #[error("the file ends within the header of a packet")]
    CutHeader,
    /// The file ends within a packet or block.
    #[error("the file is cut off: {read} of {len} bytes are there")]
    CutBlock {
        /// Bytes that are in the file.
        read: usize,
        /// Bytes of the whole packet or block.
        len: usize,
    },
    /// A section header has no valid byte order mark.
    #[error("a section without byte order")]
    ByteOrder,
    /// A block has an impossible length.
    #[error("a block of {0} bytes")]
    BlockLength(u32),
    /// A packet has an impossible length.
    #[error("a packet of {0} bytes")]
    PacketLength(u32),
    /// A packet is longer than the block that holds it.
    #[error("a packet that is longer than its block")]
    PacketInBlock,
    /// A block cannot be parsed.
    #[error("no sound block of type {0:#010x}")]
    Block(u32),
    /// A packet names an interface that no block describes.
    #[error("interface {0} is not described")]
    Interface(usize),
}
