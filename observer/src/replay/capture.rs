//! Captures: pcap and pcapng, in either byte order, one packet after the other.
//!
//! Blocks and records are cut out here, so that every error has a place; what is in them, pcap-parser reads.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use jiff::Timestamp;
use observer_ebpf::abi::Direction;
use pcap_parser::{
    Block, OptionCode, PcapHeader, PcapNGOption, parse_block_be, parse_block_le, parse_pcap_header,
    traits::PcapNGPacketBlock,
};

/// Why a capture cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It cannot be opened.
    #[error("{name}: {source}: give a pcap or pcapng file, or - for standard input")]
    Open {
        /// Which file.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{name} is no pcap or pcapng capture: it {what}")]
    Foreign {
        /// Which file.
        name: String,
        /// What it is instead, and what to do.
        what: String,
    },
    /// It goes wrong somewhere.
    #[error("{name}: at byte {offset}, behind packet {packets}: {what}")]
    Broken {
        /// Which file.
        name: String,
        /// Where the block or record begins.
        offset: u64,
        /// Packets that were read before.
        packets: u64,
        /// What is wrong there.
        what: String,
    },
}

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The section of the file that describes it, and its number there.
    pub(super) number: (usize, usize),
    /// Its name, where the capture has one.
    pub(super) name: Option<String>,
    /// Its `LINKTYPE_` number.
    pub(super) link_type: u16,
    times: Times,
}

/// One packet.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    /// How many interfaces the file describes before its own.
    pub(super) source: usize,
    /// When, in UNIX milliseconds; `None` where the capture does not say, or nothing sensible.
    pub(super) unix_ms: Option<i64>,
    /// What there is of it, from the link header on.
    pub(super) data: &'a [u8],
    /// How long it was.
    pub(super) len: u32,
    /// Which way it went, where the capture says.
    pub(super) direction: Option<Direction>,
}

/// A capture that is being read.
pub(super) struct Capture {
    name: String,
    input: Box<dyn Read + Send>,
    size: Option<u64>,
    format: Format,
    sources: Vec<Source>,
    /// The number of the section that is being read, and its first source.
    section: (usize, usize),
    /// Packets that the capturing program says it lost, by source.
    dropped: BTreeMap<usize, u64>,
    /// The block or record that is being read, and where it begins.
    block: Vec<u8>,
    start: u64,
    packets: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pcap { big_endian: bool, modified: bool },
    PcapNg { big_endian: bool },
}

/// How an interface counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    /// Units per second; 0 where that is out of all range.
    resolution: u128,
    /// Seconds to add.
    offset: i64,
}

/// Longer is no packet: the largest that a kernel hands on are half a megabyte.
const MAX_BLOCK: usize = 64 << 20;

/// Bytes that tell the formats apart.
const MAGIC: usize = 4;
/// pcap with times in microseconds.
const PLAIN: u32 = 0xa1b2_c3d4;
/// The same with longer records: Alexey Kuznetzov's "modified" pcap.
const MODIFIED: u32 = 0xa1b2_cd34;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const OBSOLETE_PACKET: u32 = 2;
/// Blocks without which packets are missed or misread: sections, interfaces, simple and enhanced packets.
const NEEDED: [u32; 4] = [SECTION_HEADER, 1, 3, 6];
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

impl Capture {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, CaptureError> {
        const BUFFER: usize = 1 << 20;
        let name = if path == Path::new("-") { "standard input".into() } else { path.display().to_string() };
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
            Ok((file, size)) => Self::new(name, Box::new(BufReader::with_capacity(BUFFER, file)), size),
            Err(source) => Err(CaptureError::Open { name, source }),
        }
    }

    fn new(name: String, input: Box<dyn Read + Send>, size: Option<u64>) -> Result<Self, CaptureError> {
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
        capture.read_to(MAGIC).map_err(|source| CaptureError::Open { name: capture.name.clone(), source })?;
        if capture.word(0, false) == SECTION_HEADER {
            // The first block is read as any other.
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
        // pcap-parser knows the modified format in little-endian order only; its header is that of all others.
        let modified_big_endian = bytes.starts_with(&MODIFIED.to_be_bytes());
        if modified_big_endian {
            bytes[..MAGIC].copy_from_slice(&PLAIN.to_be_bytes());
        }
        let what = match parse_pcap_header(&bytes) {
            Ok((_, header)) if is_whole => {
                let modified = modified_big_endian || header.is_modified_format();
                self.format = Format::Pcap { big_endian: header.is_bigendian(), modified };
                self.sources.push(Source::of_pcap(&header));
                self.take_block();
                return Ok(());
            }
            Ok(_) => "ends within its header".into(),
            Err(_) => foreign(&self.block),
        };
        Err(CaptureError::Foreign { name, what })
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its size in bytes, where that is known.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// How far it is read.
    pub(super) fn position(&self) -> u64 {
        self.start
    }

    /// Packets that whoever captured says it missed.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.values().copied().fold(0, u64::saturating_add)
    }

    /// The next packet and its interface; `None` at the end. After an error there is none.
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
            // The beginning of the first block was read to know the format.
            if self.start != 0 || self.block.len() > MAGIC {
                self.take_block();
            }
            if !self.fill_pcapng_block()? {
                return Ok(None);
            }
            let Format::PcapNg { big_endian } = self.format else { return Ok(None) };
            let kind = self.word(0, big_endian);
            let found = if kind == OBSOLETE_PACKET {
                self.obsolete_packet(big_endian).map(Some)
            } else {
                let parse = if big_endian { parse_block_be } else { parse_block_le };
                match parse(&self.block) {
                    Ok((_, block)) => Found::read(&block, big_endian),
                    Err(_) if NEEDED.contains(&kind) => Err(format!("no sound block of type {kind:#010x}")),
                    // Of no use for us, and its length has told where the next one begins.
                    Err(_) => Ok(None),
                }
            };
            match found {
                Err(what) => return Err(self.broken(what)),
                Ok(None) => {}
                Ok(Some(Found::Section)) => self.section = (self.section.0 + 1, self.sources.len()),
                Ok(Some(Found::Source(mut source))) => {
                    source.number = (self.section.0, self.sources.len() - self.section.1);
                    self.sources.push(source);
                }
                Ok(Some(Found::Dropped { source, packets })) => {
                    self.dropped.insert(self.section.1 + source, packets);
                }
                Ok(Some(Found::Packet(found))) => {
                    let number = self.section.1 + found.source;
                    let Some(source) = self.sources.get(number) else {
                        return Err(self.broken(format!("interface {} is not described", found.source)));
                    };
                    self.packets += 1;
                    let packet = Packet {
                        source: number,
                        unix_ms: found.ticks.and_then(|ticks| source.times.unix_ms(ticks.into())),
                        data: &self.block[found.data.0..found.data.0 + found.data.1],
                        len: found.len.max(found.data.1 as u32),
                        direction: found.direction,
                    };
                    return Ok(Some((source, packet)));
                }
            }
        }
    }

    /// Reads one block, and of a section header its byte order.
    fn fill_pcapng_block(&mut self) -> Result<bool, CaptureError> {
        const HEADER: usize = 12;
        if !self.fill(HEADER)? {
            return Ok(false);
        }
        if self.word(0, false) == SECTION_HEADER {
            let big_endian = match (self.word(8, false), self.word(8, true)) {
                (BYTE_ORDER, _) => false,
                (_, BYTE_ORDER) => true,
                _ => return Err(self.broken("a section without byte order")),
            };
            self.format = Format::PcapNg { big_endian };
        }
        let Format::PcapNg { big_endian } = self.format else { return Ok(false) };
        let len = self.word(4, big_endian);
        if (len as usize) < HEADER || !len.is_multiple_of(4) {
            return Err(self.broken(format!("a block of {len} bytes")));
        }
        self.fill_block(HEADER, len - HEADER as u32)?;
        Ok(true)
    }

    /// The packet block of the first drafts of pcapng.
    fn obsolete_packet(&self, big_endian: bool) -> Result<Found, String> {
        const DATA: usize = 28;
        let block = &self.block;
        let word = |at| self.word(at, big_endian);
        if block.len() < DATA + 4 || word(20) as usize > block.len() - DATA - 4 {
            return Err("a packet that is longer than its block".into());
        }
        let source = [block[8], block[9]];
        Ok(Found::Packet(FoundPacket {
            source: if big_endian { u16::from_be_bytes(source) } else { u16::from_le_bytes(source) }.into(),
            ticks: Some(u64::from(word(12)) << 32 | u64::from(word(16))),
            data: (DATA, word(20) as usize),
            len: word(24),
            direction: None,
        }))
    }

    /// Forgets the block that was read.
    fn take_block(&mut self) {
        self.start += self.block.len() as u64;
        self.block.clear();
    }

    /// Reads the header of a block or record; `false` at the end of the file.
    fn fill(&mut self, header: usize) -> Result<bool, CaptureError> {
        match self.read_to(header) {
            Ok(true) => Ok(true),
            Ok(false) if self.block.is_empty() => Ok(false),
            Ok(false) => Err(self.broken("the file ends within the header of a packet")),
            Err(error) => Err(self.broken(error.to_string())),
        }
    }

    /// Reads the rest of it.
    fn fill_block(&mut self, header: usize, rest: u32) -> Result<(), CaptureError> {
        let len = header + rest as usize;
        if len > MAX_BLOCK {
            return Err(self.broken(format!("a packet of {rest} bytes")));
        }
        match self.read_to(len) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let what = format!("the file is cut off: {} of {len} bytes are there", self.block.len());
                Err(self.broken(what))
            }
            Err(error) => Err(self.broken(error.to_string())),
        }
    }

    /// Reads until the block has `len` bytes; `false` where the file ends before.
    fn read_to(&mut self, len: usize) -> io::Result<bool> {
        let missing = len.saturating_sub(self.block.len());
        (&mut self.input).take(missing as u64).read_to_end(&mut self.block)?;
        Ok(self.block.len() >= len)
    }

    /// A word of the block; 0 where the block is too short.
    fn word(&self, at: usize, big_endian: bool) -> u32 {
        let bytes =
            self.block.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn broken(&self, what: impl Into<String>) -> CaptureError {
        CaptureError::Broken {
            name: self.name.clone(),
            offset: self.start,
            packets: self.packets,
            what: what.into(),
        }
    }
}

/// What a file is that begins like this, and what to do.
fn foreign(bytes: &[u8]) -> String {
    const COMPRESSED: [(&[u8], &str); 4] = [
        (&[0x1f, 0x8b], "zcat"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstdcat"),
        (&[0xfd, b'7', b'z', b'X'], "xzcat"),
        (b"BZh", "bzcat"),
    ];
    if bytes.is_empty() {
        return "is empty".into();
    }
    if let Some((_, program)) = COMPRESSED.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("is compressed: pipe it through `{program}`, and give - for standard input");
    }
    let bytes: Vec<_> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("begins with {}: give what `tcpdump -w` or Wireshark has written", bytes.join(" "))
}

/// What a block of pcapng says, without the block.
enum Found {
    Section,
    Source(Source),
    Packet(FoundPacket),
    Dropped { source: usize, packets: u64 },
}

struct FoundPacket {
    /// Number in the section.
    source: usize,
    ticks: Option<u64>,
    /// Offset in the block, and length.
    data: (usize, usize),
    len: u32,
    direction: Option<Direction>,
}

impl Found {
    fn read(block: &Block<'_>, big_endian: bool) -> Result<Option<Self>, String> {
        Ok(Some(match block {
            Block::SectionHeader(_) => Self::Section,
            Block::InterfaceDescription(block) => Self::Source(Source {
                number: (0, 0),
                name: name(&block.options),
                link_type: block.linktype.0 as u16,
                times: Times::of_pcapng(&block.options, big_endian),
            }),
            Block::EnhancedPacket(block) => {
                const DATA: usize = 28;
                Self::Packet(FoundPacket {
                    source: block.if_id as usize,
                    ticks: Some(u64::from(block.ts_high) << 32 | u64::from(block.ts_low)),
                    data: (DATA, block.packet_data().len()),
                    len: block.origlen,
                    direction: direction(&block.options, big_endian),
                })
            }
            Block::SimplePacket(block) => {
                const DATA: usize = 12;
                let captured = block.packet_data().len().min(block.origlen as usize);
                Self::Packet(FoundPacket {
                    source: 0,
                    ticks: None,
                    data: (DATA, captured),
                    len: block.origlen,
                    direction: None,
                })
            }
            Block::InterfaceStatistics(block) => {
                let drops = [OptionCode::IsbIfDrop, OptionCode::IsbOsDrop];
                let packets = drops.map(|code| number(&block.options, code, big_endian).unwrap_or(0));
                Self::Dropped {
                    source: block.if_id as usize,
                    packets: packets.into_iter().fold(0, u64::saturating_add),
                }
            }
            _ => return Ok(None),
        }))
    }
}

/// `epb_flags`, whose lowest two bits are the direction.
fn direction(options: &[PcapNGOption<'_>], big_endian: bool) -> Option<Direction> {
    const EPB_FLAGS: OptionCode = OptionCode(2);
    match number(options, EPB_FLAGS, big_endian)? & 3 {
        1 => Some(Direction::Ingress),
        2 => Some(Direction::Egress),
        _ => None,
    }
}

/// An option that is a number of 1, 4 or 8 bytes, in the byte order of its section.
fn number(options: &[PcapNGOption<'_>], code: OptionCode, big_endian: bool) -> Option<u64> {
    let option = options.iter().find(|option| option.code == code)?;
    let bytes = option.as_bytes().ok().filter(|bytes| bytes.len() <= 8)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
}

/// `if_name`; `None` where it is empty, as programs that join captures write it.
fn name(options: &[PcapNGOption<'_>]) -> Option<String> {
    let option = options.iter().find(|option| option.code == OptionCode::IfName)?;
    let name = String::from_utf8_lossy(option.as_bytes().ok()?);
    // It becomes a part of records, which are split at spaces.
    let name =
        name.trim_end_matches('\0').replace(|c: char| c.is_whitespace() || c.is_control() || c == '"', "_");
    Some(name).filter(|name| !name.is_empty())
}

impl Source {
    fn of_pcap(header: &PcapHeader) -> Self {
        let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
        Self {
            number: (0, 0),
            name: None,
            // The upper half holds other things.
            link_type: header.network.0 as u16,
            times: Times { resolution, offset: 0 },
        }
    }
}

impl Times {
    fn of_pcapng(options: &[PcapNGOption<'_>], big_endian: bool) -> Self {
        const MICROSECONDS: u64 = 6;
        const BINARY: u32 = 0x80;
        let exponent = number(options, OptionCode::IfTsresol, big_endian).unwrap_or(MICROSECONDS) as u32;
        let (base, exponent) =
            if exponent & BINARY == 0 { (10_u128, exponent) } else { (2, exponent - BINARY) };
        Self {
            resolution: base.checked_pow(exponent).unwrap_or(0),
            offset: number(options, OptionCode::IfTsoffset, big_endian).unwrap_or(0) as i64,
        }
    }

    fn unix_ms(self, ticks: u128) -> Option<i64> {
        let ms = ticks.checked_mul(1000)?.checked_div(self.resolution)?;
        let ms = i128::try_from(ms).ok()? + i128::from(self.offset) * 1000;
        // Towards the end of the year 9999: later is no time.
        (0..=Timestamp::MAX.as_millisecond().into()).contains(&ms).then_some(ms as i64)
    }
}
