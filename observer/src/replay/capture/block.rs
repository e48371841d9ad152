//! Blocks of pcapng files.

use observer_ebpf::abi::Direction;
use pcap_parser::{Block, OptionCode, parse_block_be, parse_block_le, traits::PcapNGPacketBlock};

use super::{
    error::Defect,
    options,
    source::{Source, Times},
    word::word_at,
};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const OBSOLETE_PACKET: u32 = 2;
/// Block types that must be valid, because packets depend on them: section header, interface
/// description, simple and enhanced packets.
const NEEDED: [u32; 4] = [SECTION_HEADER, 1, 3, 6];

/// The content of a pcapng block, as far as replay uses it.
pub(super) enum Content {
    Section,
    Source(Source),
    Packet(PacketContent),
    Dropped { source: usize, packets: u64 },
}

/// A packet in a block.
pub(super) struct PacketContent {
    /// Number of the interface in the section.
    pub(super) source: usize,
    /// Timestamp in units of the interface.
    pub(super) ticks: Option<u64>,
    /// Offset of the data in the block, and length.
    pub(super) data: (usize, usize),
    /// Original length in bytes.
    pub(super) len: u32,
    pub(super) direction: Option<Direction>,
}

impl Content {
    /// Parses a block of this type; `None` for a block that replay does not use.
    pub(super) fn parse(
        bytes: &[u8],
        block_type: u32,
        big_endian: bool,
    ) -> Result<Option<Self>, Defect> {
        if block_type == OBSOLETE_PACKET {
            return Self::obsolete_packet(bytes, big_endian).map(Some);
        }
        let parse = if big_endian { parse_block_be } else { parse_block_le };
        match parse(bytes) {
            Ok((_, block)) => Ok(Self::of(&block, big_endian)),
            Err(_) if NEEDED.contains(&block_type) => Err(Defect::Block(block_type)),
            // An unused block: its length leads to the next one.
            Err(_) => Ok(None),
        }
    }

    fn of(block: &Block<'_>, big_endian: bool) -> Option<Self> {
        Some(match block {
            Block::SectionHeader(_) => Self::Section,
            Block::InterfaceDescription(block) => Self::Source(Source {
                number: (0, 0),
                name: options::name(&block.options),
                link_type: block.linktype.0 as u16,
                times: Times::of_pcapng(&block.options, big_endian),
            }),
            Block::EnhancedPacket(block) => {
                const DATA: usize = 28;
                Self::Packet(PacketContent {
                    source: block.if_id as usize,
                    ticks: Some(u64::from(block.ts_high) << 32 | u64::from(block.ts_low)),
                    data: (DATA, block.packet_data().len()),
                    len: block.origlen,
                    direction: options::direction(&block.options, big_endian),
                })
            }
            Block::SimplePacket(block) => {
                const DATA: usize = 12;
                let captured = block.packet_data().len().min(block.origlen as usize);
                Self::Packet(PacketContent {
                    source: 0,
                    ticks: None,
                    data: (DATA, captured),
                    len: block.origlen,
                    direction: None,
                })
            }
            Block::InterfaceStatistics(block) => {
                let drops = [OptionCode::IsbIfDrop, OptionCode::IsbOsDrop];
                let packets = drops
                    .map(|code| options::number(&block.options, code, big_endian).unwrap_or(0));
                Self::Dropped {
                    source: block.if_id as usize,
                    packets: packets.into_iter().fold(0, u64::saturating_add),
                }
            }
            _ => return None,
        })
    }

    /// Parses the packet block of the first drafts of pcapng.
    fn obsolete_packet(block: &[u8], big_endian: bool) -> Result<Self, Defect> {
        const DATA: usize = 28;
        let word = |at| word_at(block, at, big_endian);
        if block.len() < DATA + 4 || word(20) as usize > block.len() - DATA - 4 {
            return Err(Defect::PacketInBlock);
        }
        let source = [block[8], block[9]];
        Ok(Self::Packet(PacketContent {
            source: if big_endian {
                u16::from_be_bytes(source)
            } else {
                u16::from_le_bytes(source)
            }
            .into(),
            ticks: Some(u64::from(word(12)) << 32 | u64::from(word(16))),
            data: (DATA, word(20) as usize),
            len: word(24),
            direction: None,
        }))
    }
}
