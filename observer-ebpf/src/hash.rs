//! The keyed hash that selects entries in the flow cache and in the table of fragments.
//!
//! Without knowledge of the secret factors, nobody can choose packets that collide.

/// Number of hashed words.
pub const WORDS: usize = 5;

/// Number of secret factors, all odd.
pub const FACTORS: usize = WORDS + HALVES;

/// Number of words whose upper halves have a second factor. The first words hold addresses in
/// network byte order, so the byte in which neighbours differ is the uppermost one on a
/// little-endian host. One multiplication would shift these bits out of the word: 65,536 pairs of
/// addresses in two /24 networks would have 256 hashes.
const HALVES: usize = 4;

/// Hashes five words. The upper bits are the best ones.
///
/// A multilinear hash over the halves of the words: for two keys, every difference of sums is
/// equally likely. The last two steps (as in `SplitMix64`) scatter the sums of consecutive keys,
/// which with unlucky factors would fall on few sets.
#[inline(always)]
pub fn hash(word: impl Fn(usize) -> u64, factor: impl Fn(usize) -> u64) -> u64 {
    /// 2^64 divided by the golden ratio.
    const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut sum = 0_u64;
    for at in 0..WORDS {
        sum = sum.wrapping_add(word(at).wrapping_mul(factor(at)));
    }
    for at in 0..HALVES {
        sum = sum.wrapping_add((word(at) >> 32).wrapping_mul(factor(WORDS + at)));
    }
    (sum ^ sum >> 32).wrapping_mul(SCATTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Direction, Family, FlowKey, WAYS};

    const FLOWS: u32 = 8192;
    /// Two flows to a set.
    const SETS: u64 = 4096;
    const DRAWS: u64 = 20;

    /// Name of a pattern, and its flow for each number.
    type Pattern<'a> = (&'static str, &'a dyn Fn(u32) -> FlowKey);

    /// Deterministic pseudo-random numbers.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    fn v4(address: u32) -> [u64; 2] {
        FlowKey::mapped(address.to_be_bytes())
    }

    fn v6(upper: u64, lower: u64) -> [u64; 2] {
        [upper.to_be(), lower.to_be()]
    }

    fn key(
        (source, destination): ([u64; 2], [u64; 2]),
        (from, to): (u16, u16),
        interface: u16,
    ) -> FlowKey {
        FlowKey {
            source,
            destination,
            source_port_be: from.to_be(),
            destination_port_be: to.to_be(),
            protocol: 17,
            tag: FlowKey::tag(3, Direction::Egress, Family::V4),
            interface,
        }
    }

    /// Number of flows that find their set full. With a random hash it is about 300.
    fn overflow(flow: &dyn Fn(u32) -> FlowKey, factors: &[u64; FACTORS]) -> usize {
        let mut sets = std::vec![0_usize; SETS as usize];
        for number in 0..FLOWS {
            let key = flow(number);
            // SAFETY: the key is integers without padding.
            let words = unsafe { core::mem::transmute::<FlowKey, [u64; WORDS]>(key) };
            let hash = hash(|at| words[at], |at| factors[at]);
            sets[(((hash >> 32) * SETS) >> 32) as usize] += 1;
        }
        sets.iter().map(|flows| flows.saturating_sub(WAYS)).sum()
    }

    #[test]
    fn flows_of_any_pattern_spread_as_by_chance() {
        let low = |number: u32| number & 0x7f;
        let high = |number: u32| number >> 7;
        let wide = |number: u32| u64::from(number);
        let net = 0x2001_0db8_0000_0000_u64;
        let one = v4(0x0a00_0001);
        let dns = (53, 53);
        let patterns: [Pattern<'_>; 15] = [
            ("addresses of two /24", &|n| {
                key((v4(0x0a00_0000 + low(n)), v4(0x0a00_0100 + high(n))), dns, 3)
            }),
            ("sources in a row", &|n| key((v4(0x0a00_0000 + n), one), dns, 3)),
            ("the same lower 19 bits", &|n| key((v4(n << 19), one), dns, 3)),
            ("differences that cancel out by xor", &|n| {
                key((v4(0x0a00_0000 ^ n), v4(0x0a01_0000 ^ n)), dns, 3)
            }),
            ("differences that cancel out in a sum", &|n| {
                key((v4(0x0a00_0000 + n), v4(0x0b00_0000 - n)), dns, 3)
            }),
            ("both directions", &|n| {
                let (a, b) = (v4(0x0a00_0000 + (n >> 1)), v4(0x0b00_0000 + (n >> 1)));
                key(if n & 1 == 0 { (a, b) } else { (b, a) }, dns, 3)
            }),
            ("source ports in a row", &|n| key((one, one), (1024 + n as u16, 443), 3)),
            ("source and destination ports", &|n| {
                key((one, one), (low(n) as u16, high(n) as u16), 3)
            }),
            ("ports of one sum", &|n| key((one, one), (n as u16, u16::MAX - n as u16), 3)),
            ("addresses and ports in step", &|n| {
                key((v4(0x0a00_0000 + n), one), (n as u16, 53), 3)
            }),
            ("interfaces", &|n| key((one, v4(n >> 6)), dns, 1 + (n & 0x3f) as u16)),
            ("IPv6 hosts of two networks", &|n| {
                key((v6(net, wide(low(n))), v6(net, wide(high(n)))), dns, 3)
            }),
            ("IPv6 networks", &|n| {
                key((v6(net + wide(low(n)), 1), v6(net + wide(high(n)), 1)), dns, 3)
            }),
            ("uppermost bits of two words", &|n| {
                key(([wide(low(n)) << 57, wide(high(n)) << 57], one), dns, 3)
            }),
            ("halves that cancel out by xor", &|n| {
                let twice = |bits: u32| wide(bits) << 56 | wide(bits) << 24;
                key(([twice(low(n)), twice(high(n))], one), dns, 3)
            }),
        ];
        let mut numbers = Numbers(0x5eed);
        for _ in 0..DRAWS {
            let factors = std::array::from_fn(|_| numbers.next() | 1);
            for (name, pattern) in patterns {
                let overflow = overflow(pattern, &factors);
                // Expected 308 with a standard deviation of about 22; twice that is practically
                // impossible.
                assert!(overflow < 616, "{name}: {overflow} of {FLOWS} flows with {factors:x?}");
            }
        }
    }
}
