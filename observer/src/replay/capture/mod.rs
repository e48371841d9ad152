//! Reads pcap and pcapng captures of either byte order, packet by packet.
//!
//! In: a file or standard input. Out: [`Packet`]s with their [`Source`]s. This module finds the
//! bounds of blocks and records itself, so that every error has an offset; pcap-parser parses their
//! content.

mod block;
mod error;
mod options;
mod source;
mod word;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use observer_ebpf::abi::Direction;
use pcap_parser::parse_pcap_header;

pub use self::error::CaptureError;
pub(super) use self::source::Source;
use self::{
    block::{Content, PacketContent, SECTION_HEADER},
    error::{Defect, ForeignFormat},
    word::word_at,
};

/// A packet of a capture.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// Number of interfaces that the file describes before the packet's own.
    pub(super) source: usize,
    /// Time in UNIX milliseconds; `None` if the capture gives none, or one out of range.
    pub(super) unix_ms: Option<i64>,
    /// Captured bytes, from the link header on.
    pub(super) data: &'a [u8],
    /// Original length in bytes.
    pub(super) len: u32,
    /// Direction, if the capture gives it.
    pub(super) direction: Option<Direction>,
}

/// A capture and the position in it.
pub(super) struct Capture {
    name: String,
    input: Box<dyn Read + Send>,
    size: Option<u64>,
    format: Format,
    sources: Vec<Source>,
    /// Number of the current section, and its first source.
    section: (usize, usize),
    /// Packets that the capturing program lost, by source.
    dropped: BTreeMap<usize, u64>,
    /// Bytes read of the current block or record, and its offset in the file.
    block: Vec<u8>,
    start: u64,
    packets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pcap { big_endian: bool, modified: bool },
    PcapNg { big_endian: bool },
}

/// Largest block or record, in bytes. The largest packets of a kernel have half a megabyte.
const MAX_BLOCK: usize = 64 << 20;

/// Length of the magic number that distinguishes the formats.
const MAGIC: usize = 4;
/// Magic number of pcap with microseconds.
const PLAIN: u32 = 0xa1b2_c3d4;
/// Magic number of Alexey Kuznetzov's "modified" pcap, which has longer record headers.
const MODIFIED: u32 = 0xa1b2_cd34;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

impl Capture {
    /// Opens a capture; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        const BUFFER: usize = 1 << 20;
        let name = if path == Path::new("-") {
            "standard input".into()
        } else {
            path.display().to_string()
        };
        if path == Path::new("-") {
            return Self::new(name, Box::new(BufReader::with_capacity(BUFFER, io::stdin())), None);
        }
        let open = || {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok((file, metadata.is_file().then_some(metadata.len())))
        };
        match open() {
            Ok((file, size)) => {
                Self::new(name, Box::new(BufReader::with_capacity(BUFFER, file)), size)
            }
            Err(source) => Err(CaptureError::Open { name, source }),
        }
    }

    fn new(
        name: String,
        input: Box<dyn Read + Send>,
        size: Option<u64>,
    ) -> Result<Self, CaptureError> {
        let mut capture = Self {
            name,
            input,
            size,
            format: Format::PcapNg { big_endian: false },
            sources: Vec::new(),
            section: (0, 0),
            dropped: BTreeMap::new(),
            block: Vec::new(),
            start: 0,
            packets: 0,
        };
        capture
            .read_to(MAGIC)
            .map_err(|source| CaptureError::Open { name: capture.name.clone(), source })?;
        if capture.word(0, false) == SECTION_HEADER {
            // `next` reads the first block like any other.
            return Ok(capture);
        }
        capture.pcap_header()?;
        Ok(capture)
    }

    fn pcap_header(&mut self) -> Result<(), CaptureError> {
        const HEADER: usize = 24;
        let name = self.name.clone();
        let is_whole = match self.read_to(HEADER) {
            Ok(is_whole) => is_whole,
            Err(source) => return Err(CaptureError::Open { name, source }),
        };
        let mut bytes = self.block.clone();
        bytes.resize(HEADER, 0);
        // pcap-parser supports the modified format in little-endian order only; the header does not
        // differ otherwise.
        let modified_big_endian = bytes.starts_with(&MODIFIED.to_be_bytes());
        if modified_big_endian {
            bytes[..MAGIC].copy_from_slice(&PLAIN.to_be_bytes());
        }
        let format = match parse_pcap_header(&bytes) {
            Ok((_, header)) if is_whole => {
                let modified = modified_big_endian || header.is_modified_format();
                self.format = Format::Pcap { big_endian: header.is_bigendian(), modified };
                self.sources.push(Source::of_pcap(&header));
                self.take_block();
                return Ok(());
            }
            Ok(_) => ForeignFormat::CutHeader,
            Err(_) => ForeignFormat::of(&self.block),
        };
        Err(CaptureError::Foreign { name, format })
    }

    /// Name for messages: the path, or `standard input`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes, if known.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// Offset of the current block or record, in bytes.
    pub(super) fn position(&self) -> u64 {
        self.start
    }

    /// Number of packets that the capturing program reports as lost.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.values().copied().fold(0, u64::saturating_add)
    }

    /// The next packet and its interface; `None` at the end of the file. Must not be called after
    /// an error.
    pub(super) fn next(&mut self) -> Result<Option<(&Source, Packet<'_>)>, CaptureError> {
        match self.format {
            Format::Pcap { big_endian, modified } => self.next_of_pcap(big_endian, modified),
            Format::PcapNg { .. } => self.next_of_pcapng(),
        }
    }

    fn next_of_pcap(
        &mut self,
        big_endian: bool,
        modified: bool,
    ) -> Result<Option<(&Source, Packet<'_>)>, CaptureError> {
        self.take_block();
        let header = if modified { 24 } else { 16 };
        if !self.fill(header)? {
            return Ok(None);
        }
        let captured = self.word(8, big_endian);
        self.fill_block(header, captured)?;
        self.packets += 1;
        let [seconds, fraction, len] = [0, 4, 12].map(|at| self.word(at, big_endian));
        let source = &self.sources[0];
        let ticks = u128::from(seconds) * source.times.resolution + u128::from(fraction);
        let packet = Packet {
            source: 0,
            unix_ms: source.times.unix_ms(ticks),
            data: &self.block[header..],
            len: len.max(captured),
            direction: None,
        };
        Ok(Some((source, packet)))
    }

    fn next_of_pcapng(&mut self) -> Result<Option<(&Source, Packet<'_>)>, CaptureError> {
        loop {
            // The first bytes of the first block were read already, to recognise the format.
            if self.start != 0 || self.block.len() > MAGIC {
                self.take_block();
            }
            if !self.fill_pcapng_block()? {
                return Ok(None);
            }
            let Format::PcapNg { big_endian } = self.format else { return Ok(None) };
            let block_type = self.word(0, big_endian);
            match Content::parse(&self.block, block_type, big_endian) {
                Err(defect) => return Err(self.broken(defect)),
                Ok(None) => {}
                Ok(Some(Content::Section)) => {
                    self.section = (self.section.0 + 1, self.sources.len());
                }
                Ok(Some(Content::Source(mut source))) => {
                    source.number = (self.section.0, self.sources.len() - self.section.1);
                    self.sources.push(source);
                }
                Ok(Some(Content::Dropped { source, packets })) => {
                    self.dropped.insert(self.section.1 + source, packets);
                }
                Ok(Some(Content::Packet(packet))) => {
                    return self.packet_of_pcapng(&packet).map(Some);
                }
            }
        }
    }

    fn packet_of_pcapng(
        &mut self,
        content: &PacketContent,
    ) -> Result<(&Source, Packet<'_>), CaptureError> {
        let number = self.section.1 + content.source;
        let Some(source) = self.sources.get(number) else {
            return Err(self.broken(Defect::Interface(content.source)));
        };
        self.packets += 1;
        let packet = Packet {
            source: number,
            unix_ms: content.ticks.and_then(|ticks| source.times.unix_ms(ticks.into())),
            data: &self.block[content.data.0..content.data.0 + content.data.1],
            len: content.len.max(content.data.1 as u32),
            direction: content.direction,
        };
        Ok((source, packet))
    }

    /// Reads a block. A section header also sets the byte order. False at the end of the file.
    fn fill_pcapng_block(&mut self) -> Result<bool, CaptureError> {
        const HEADER: usize = 12;
        if !self.fill(HEADER)? {
            return Ok(false);
        }
        if self.word(0, false) == SECTION_HEADER {
            let big_endian = match (self.word(8, false), self.word(8, true)) {
                (BYTE_ORDER, _) => false,
                (_, BYTE_ORDER) => true,
                _ => return Err(self.broken(Defect::ByteOrder)),
            };
            self.format = Format::PcapNg { big_endian };
        }
        let Format::PcapNg { big_endian } = self.format else { return Ok(false) };
        let len = self.word(4, big_endian);
        if (len as usize) < HEADER || !len.is_multiple_of(4) {
            return Err(self.broken(Defect::BlockLength(len)));
        }
        self.fill_block(HEADER, len - HEADER as u32)?;
        Ok(true)
    }

    /// Moves past the current block or record.
    fn take_block(&mut self) {
        self.start += self.block.len() as u64;
        self.block.clear();
    }

    /// Reads the header of a block or record. False at the end of the file.
    fn fill(&mut self, header: usize) -> Result<bool, CaptureError> {
        match self.read_to(header) {
            Ok(true) => Ok(true),
            Ok(false) if self.block.is_empty() => Ok(false),
            Ok(false) => Err(self.broken(Defect::CutHeader)),
            Err(error) => Err(self.broken(Defect::Io(error))),
        }
    }

    /// Reads the rest of a block or record.
    fn fill_block(&mut self, header: usize, rest: u32) -> Result<(), CaptureError> {
        let len = header + rest as usize;
        if len > MAX_BLOCK {
            return Err(self.broken(Defect::PacketLength(rest)));
        }
        match self.read_to(len) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.broken(Defect::CutBlock { read: self.block.len(), len })),
            Err(error) => Err(self.broken(Defect::Io(error))),
        }
    }

    /// Reads until the block has `len` bytes. False if the file ends before.
    fn read_to(&mut self, len: usize) -> io::Result<bool> {
        let missing = len.saturating_sub(self.block.len());
        (&mut self.input).take(missing as u64).read_to_end(&mut self.block)?;
        Ok(self.block.len() >= len)
    }

    /// A word of the block; 0 if the block is too short.
    fn word(&self, at: usize, big_endian: bool) -> u32 {
        word_at(&self.block, at, big_endian)
    }

    fn broken(&self, defect: Defect) -> CaptureError {
        CaptureError::Broken {
            name: self.name.clone(),
            offset: self.start,
            packets: self.packets,
            defect,
        }
    }
}
