//! Randomly generated packets: random layers, mostly valid, then damaged; packets of the corpus,
//! damaged; and random bytes. A seed and a number identify each packet.

mod fields;

use std::ops::RangeInclusive;

use fastrand::Rng;
use observer_ebpf::packet::{Frame, Link};

use super::{
    Input, corpus,
    test_run::{MOST, least},
};

/// Maximum payload length: some packets have the length of a link's packets, most are small to save
/// time.
const MAX_PAYLOAD: usize = 1600;

/// Kinds of packets, according to the code that will read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any input of the parser.
    Any,
    /// Complete Ethernet frames that a test run of the kernel accepts.
    Ethernet,
    /// Bare IP packets that a test run accepts. The kernel reads the bytes at 12 as an EtherType
    /// even then.
    Bare,
}

/// A generator of packets.
#[derive(Debug)]
pub(crate) struct Generator {
    kind: Kind,
    /// Combined with the number of a packet to seed its random numbers.
    seed: u64,
    random: Rng,
    bytes: Vec<u8>,
    corpus: Vec<Input>,
}

impl Generator {
    /// Creates a generator that gives the same packets for the same seed.
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let corpus = corpus().iter().map(super::Sample::input).collect();
        let mut random = Rng::with_seed(seed);
        // Similar seeds must not give the same packets under other numbers.
        let seed = random.u64(..);
        Self { kind, seed, random, bytes: Vec::new(), corpus }
    }

    /// Generates the packet with this number.
    pub(crate) fn input(&mut self, number: u64) -> Input {
        // Spread, because neighbouring seeds give similar numbers at first.
        self.random = Rng::with_seed((self.seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.bytes.clear();
        let is_bare = self.one_in(10);
        let link = match self.kind {
            Kind::Any if is_bare => Link::Bare(fields::ether_type(&mut self.random)),
            Kind::Any | Kind::Ethernet => Link::Ethernet,
            Kind::Bare => Link::Bare(if self.random.bool() { 0x0800 } else { 0x86dd }),
        };
        let mut input = match self.random.u8(..10) {
            0 => self.noise(link),
            1 | 2 => self.damaged(link),
            _ => self.stack(link),
        };
        if self.one_in(8) {
            for _ in 0..self.random.u8(1..=4) {
                self.flip(&mut input.bytes);
            }
        }
        if self.one_in(7) {
            input.frame.offload = fields::offload(&mut self.random);
        }
        if self.kind == Kind::Any && link == Link::Ethernet && self.one_in(4) {
            input.frame.tags_beside = 1;
        }
        self.cut(&mut input);
        self.fit(&mut input);
        input
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    fn of<const N: usize>(&mut self, choices: [u8; N]) -> u8 {
        choices[self.random.usize(..N)]
    }

    fn push_random(&mut self, len: usize) {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        self.random.fill(&mut self.bytes[start..]);
    }

    /// Random bytes behind an EtherType.
    fn noise(&mut self, link: Link) -> Input {
        let len = self.random.usize(..160);
        self.push_random(len);
        if self.bytes.len() >= 14 && link == Link::Ethernet {
            let ether_type = fields::ether_type(&mut self.random).to_be_bytes();
            self.bytes[12..14].copy_from_slice(&ether_type);
        }
        self.finish(link)
    }

    fn damaged(&mut self, link: Link) -> Input {
        let mut input = self.corpus[self.random.usize(..self.corpus.len())].clone();
        if let (Link::Bare(_), Link::Ethernet) = (link, input.frame.link) {
            input.bytes.drain(..14.min(input.bytes.len()));
        }
        input.frame = Frame { link, ..Input::whole(Vec::new()).frame };
        input.frame.len = input.bytes.len() as u32;
        if !input.bytes.is_empty() {
            for _ in 0..self.random.u8(..4) {
                let at = self.random.usize(..input.bytes.len().min(96));
                input.bytes[at] = self.random.u8(..);
            }
        }
        input
    }

    /// Link header, network header, transport header, payload and padding.
    fn stack(&mut self, link: Link) -> Input {
        let is_v6 = match link {
            Link::Bare(ether_type) => ether_type == 0x86dd,
            Link::Ethernet => {
                let is_v6 = self.random.bool();
                self.ethernet(if is_v6 { 0x86dd } else { 0x0800 });
                is_v6
            }
        };
        let start = self.bytes.len();
        if is_v6 {
            self.ipv6(start);
        } else {
            self.ipv4(start);
        }
        if self.one_in(3) {
            let len = self.random.usize(..=46);
            self.push_random(len);
        }
        self.finish(link)
    }

    fn finish(&mut self, link: Link) -> Input {
        let bytes = self.bytes.clone();
        let frame = Frame { link, ..Input::whole(Vec::new()).frame };
        Input { frame: Frame { len: bytes.len() as u32, ..frame }, bytes }
    }

    fn ethernet(&mut self, ether_type: u16) {
        self.push_random(12);
        let tags = self.of([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4]);
        for _ in 0..tags {
            let tag = if self.random.bool() { [0x81, 0x00] } else { [0x88, 0xa8] };
            self.bytes.extend(tag);
            self.push_random(2);
        }
        let ether_type =
            if self.one_in(20) { fields::ether_type(&mut self.random) } else { ether_type };
        self.bytes.extend(ether_type.to_be_bytes());
    }

    fn ipv4(&mut self, start: usize) {
        self.push_random(20);
        let options = if self.one_in(3) { self.random.u8(..=10) } else { 0 };
        let version = if self.one_in(30) { self.random.u8(..16) } else { 4 };
        let words = if self.one_in(30) { self.random.u8(..16) } else { 5 + options };
        let fragment = fields::ipv4_fragment(&mut self.random);
        let protocol = self.protocol();
        self.bytes[start] = version << 4 | words;
        self.bytes[start + 6..start + 8].copy_from_slice(&fragment.to_be_bytes());
        self.bytes[start + 9] = protocol;
        self.push_random(usize::from(options) * 4);
        self.transport(protocol);
        let length = fields::length(&mut self.random, self.bytes.len() - start);
        self.bytes[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn ipv6(&mut self, start: usize) {
        self.push_random(40);
        if !self.one_in(30) {
            self.bytes[start] = 0x60 | self.bytes[start] & 0x0f;
        }
        if self.one_in(12) {
            for address in [start + 8, start + 24] {
                self.bytes[address..address + 12]
                    .copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
        }
        let mut next = start + 6;
        let headers = if self.random.bool() { 0 } else { self.random.u8(..=10) };
        for _ in 0..headers {
            let kind = self.of([0, 43, 44, 51, 60, 60, 135, 139, 140]);
            self.bytes[next] = kind;
            next = self.bytes.len();
            self.extension(kind);
        }
        let protocol = self.protocol();
        self.bytes[next] = protocol;
        self.transport(protocol);
        let length = fields::length(&mut self.random, self.bytes.len() - start - 40);
        self.bytes[start + 4..start + 6].copy_from_slice(&length.to_be_bytes());
    }

    /// Adds an extension header. The caller sets its first byte.
    fn extension(&mut self, kind: u8) {
        let start = self.bytes.len();
        if kind == 44 {
            self.push_random(8);
            let offset_and_more = fields::ipv6_fragment(&mut self.random);
            self.bytes[start + 2..start + 4].copy_from_slice(&offset_and_more.to_be_bytes());
            return;
        }
        let units = if self.one_in(12) { self.random.u8(..32) } else { self.random.u8(..3) };
        let (unit, least) = if kind == 51 { (4, 2) } else { (8, 1) };
        self.bytes.resize(start + unit * (usize::from(units) + least), 0);
        self.bytes[start + 1] = if self.one_in(40) { self.random.u8(..) } else { units };
        let behind = self.bytes.len() - start - 4;
        match kind {
            // One padding option that fills the header (RFC 8200, 4.2).
            0 | 60 => self.bytes[start + 2..start + 4].copy_from_slice(&[1, behind as u8]),
            // An experimental routing type (RFC 4727, 5.3).
            43 => self.bytes[start + 2] = 253,
            // A header with random contents.
            _ if self.one_in(8) => self.random.fill(&mut self.bytes[start + 2..]),
            // The payload form, which is 8 bytes long (RFC 5533, 5.2).
            140 => self.bytes[start + 2] = 0x80,
            _ => {}
        }
    }

    fn protocol(&mut self) -> u8 {
        if self.one_in(8) {
            return self.random.u8(..);
        }
        self.of([6, 6, 6, 6, 17, 17, 17, 1, 58, 132, 136, 33, 50, 51, 47, 4, 41, 2, 59, 89, 255])
    }

    /// Adds a transport header, mostly complete, and payload.
    fn transport(&mut self, protocol: u8) {
        if matches!(protocol, 4 | 17 | 41 | 47) && self.random.bool() {
            self.tunnel(protocol);
            return;
        }
        let start = self.bytes.len();
        let header: RangeInclusive<usize> = match protocol {
            6 => 20..=60,
            33 | 132 => 12..=16,
            _ => 8..=8,
        };
        let len = match self.random.u8(..8) {
            0 => self.random.usize(..=24),
            1 => *header.end() + self.random.usize(..=MAX_PAYLOAD),
            2 | 3 => *header.end() + self.random.usize(..32),
            _ => *header.start(),
        };
        self.push_random(len);
        if protocol == 6 && len > 12 && !self.one_in(8) {
            let words = if len >= 60 { self.random.u8(5..=15) } else { 5 };
            self.bytes[start + 12] = words << 4 | self.bytes[start + 12] & 0x0f;
        }
    }

    /// Adds a tunnel header and an inner packet, which may be a tunnel again.
    fn tunnel(&mut self, protocol: u8) {
        const ETHERNET: u16 = 0x6558;
        let is_v6 = if protocol == 4 { false } else { protocol == 41 || self.random.bool() };
        let ip = if is_v6 { 0x86dd } else { 0x0800 };
        let mut inside = if self.random.bool() { ETHERNET } else { ip };
        let start = self.bytes.len();
        match protocol {
            17 => {
                let port = [4789, 8472, 4790, 6081][self.random.usize(..4)];
                self.push_random(16);
                self.bytes[start + 2..start + 4].copy_from_slice(&u16::to_be_bytes(port));
                let header = start + 8;
                match port {
                    4790 => {
                        let next = if ip == inside { 1 + u8::from(is_v6) } else { 3 };
                        self.bytes[header] |= 4;
                        self.bytes[header + 3] =
                            if self.one_in(10) { self.random.u8(..) } else { next };
                    }
                    6081 => {
                        let words = self.random.u8(..4);
                        self.bytes[header] = words;
                        self.bytes[header + 2..header + 4].copy_from_slice(&inside.to_be_bytes());
                        self.push_random(usize::from(words) * 4);
                    }
                    _ => inside = ETHERNET,
                }
            }
            47 => {
                let flags = if self.one_in(10) {
                    self.random.u8(..)
                } else {
                    self.random.u8(..16) << 4 & 0xb0
                };
                let words = (flags & 0xb0).count_ones() as usize;
                let version = if self.one_in(10) { self.random.u8(..) } else { 0 };
                self.bytes.extend([flags, version]);
                self.bytes.extend(inside.to_be_bytes());
                self.push_random(words * 4);
            }
            _ => inside = ip,
        }
        if inside == ETHERNET {
            self.ethernet(ip);
        }
        let start = self.bytes.len();
        if is_v6 {
            self.ipv6(start);
        } else {
            self.ipv4(start);
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            // The headers are at the beginning.
            let end = if self.random.bool() { bytes.len() } else { bytes.len().min(64) };
            bytes[self.random.usize(..end)] ^= 1 << self.random.u8(..8);
        }
    }

    fn cut(&mut self, input: &mut Input) {
        if !self.one_in(6) {
            return;
        }
        let end = if self.random.bool() { input.bytes.len() } else { input.bytes.len().min(120) };
        let len = self.random.usize(..=end);
        *input = if self.kind == Kind::Any && self.random.bool() {
            input.snapped(len)
        } else {
            input.shortened(len)
        };
    }

    /// Adapts a packet to the requirements of a test run.
    fn fit(&mut self, input: &mut Input) {
        if self.kind == Kind::Any {
            return;
        }
        input.bytes.truncate(MOST);
        let bare = if self.kind == Kind::Bare { 14 + 40 } else { 0 };
        // Padding may become an EtherType, which raises the minimum again.
        while input.bytes.len() < least(&input.bytes).max(bare) {
            input.bytes.push(self.random.u8(..));
        }
        if let Link::Bare(ether_type) = input.frame.link {
            input.bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        }
        input.frame.len = input.bytes.len() as u32;
    }
}
