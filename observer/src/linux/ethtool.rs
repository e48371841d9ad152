//! Driver name, queues and offloads of an interface, by the ioctls of `ethtool`. Interfaces are
//! those of the calling thread's namespace.

use std::{collections::BTreeSet, fmt, io, mem, net::UdpSocket, os::fd::AsRawFd};

use crate::linux::netlink::printable;

const GET_DRIVER: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const GET_CHANNELS: u32 = 0x3c;

/// `ETH_SS_FEATURES`: string set with the names of features.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN`
const NAME_LEN: usize = 32;
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// Numbers of queues of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues in use for both directions.
    pub combined: u32,
    /// Maximum number of queues for both directions.
    pub max_combined: u32,
    /// Queues in use for receiving only.
    pub rx: u32,
    /// Queues in use for sending only.
    pub tx: u32,
}

/// Name of an interface. It may be any bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u8; libc::IF_NAMESIZE]);

impl Name {
    /// A name from its bytes; `None` if it is too long.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut name = [0; libc::IF_NAMESIZE];
        // The last byte is the terminating zero.
        let room = name[..libc::IF_NAMESIZE - 1].get_mut(..bytes.len())?;
        room.copy_from_slice(bytes);
        Some(Self(name))
    }

    /// Bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        &self.0[..end]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Current name of the interface with this index. Fails with `ENXIO` if there is none.
pub fn name(ifindex: u32) -> io::Result<Name> {
    // nix 0.31 returns an empty name instead of an error if there is no such interface.
    let mut name = Name([0; libc::IF_NAMESIZE]);
    // SAFETY: the buffer holds the longest name and its terminating zero.
    let found = unsafe { libc::if_indextoname(ifindex, name.0.as_mut_ptr().cast()) };
    if found.is_null() { Err(io::Error::last_os_error()) } else { Ok(name) }
}

/// Name of the driver.
pub fn driver(interface: Name) -> io::Result<String> {
    // struct ethtool_drvinfo: the command, then the name in 32 bytes.
    let mut answer = [0_u8; 196];
    ask(interface, GET_DRIVER, &mut answer)?;
    Ok(text(&answer[4..4 + NAME_LEN]))
}

/// Numbers of queues. Fails if the driver does not support the query.
pub fn channels(interface: Name) -> io::Result<Channels> {
    // struct ethtool_channels: the command; maxima of rx, tx, other and combined; then the same
    // four in use.
    let mut answer = [0_u8; 36];
    ask(interface, GET_CHANNELS, &mut answer)?;
    let [max_combined, rx, tx, combined] = [4, 5, 6, 8].map(|index| word(&answer, index));
    Ok(Channels { combined, max_combined, rx, tx })
}

/// Size in bytes of one block of 32 features.
const BLOCK: usize = 16;
/// Offset in a block of the bits of features that are on.
const ON: usize = 8;

/// Offloads that are on, by their names in `ethtool -k`.
pub fn features(interface: Name) -> io::Result<BTreeSet<String>> {
    // struct ethtool_sset_info: a mask of string sets, then the size of each.
    let mut sizes = [0_u8; 20];
    sizes[8..16].copy_from_slice(&(1_u64 << FEATURE_NAMES).to_ne_bytes());
    ask(interface, GET_SET_INFO, &mut sizes)?;
    let count = word(&sizes, 4) as usize;

    // struct ethtool_gstrings: string set, count, names.
    let mut names = vec![0_u8; 12 + count * NAME_LEN];
    names[4..8].copy_from_slice(&FEATURE_NAMES.to_ne_bytes());
    names[8..12].copy_from_slice(&(count as u32).to_ne_bytes());
    ask(interface, GET_STRINGS, &mut names)?;

    // struct ethtool_gfeatures: number of blocks, then for each the bits of available, wanted,
    // active and fixed features.
    let blocks = count.div_ceil(32);
    let mut bits = vec![0_u8; 8 + blocks * BLOCK];
    bits[4..8].copy_from_slice(&(blocks as u32).to_ne_bytes());
    ask(interface, GET_FEATURES, &mut bits)?;

    let is_on = |number: usize| {
        let block = bits.get(8 + number / 32 * BLOCK + ON..).and_then(|rest| rest.first_chunk());
        block.is_some_and(|block| u32::from_ne_bytes(*block) >> (number % 32) & 1 == 1)
    };
    let names = names[12..].chunks(NAME_LEN).enumerate();
    Ok(names.filter(|(number, _)| is_on(*number)).map(|(_, name)| text(name)).collect())
}

/// Word `index` of an answer; 0 if it is missing.
fn word(answer: &[u8], index: usize) -> u32 {
    answer
        .get(index * 4..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |word| u32::from_ne_bytes(*word))
}

/// Text up to the terminating zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Runs an ethtool command. `data` has four bytes for the command, followed by its arguments; the
/// kernel writes the answer into it.
fn ask(interface: Name, command: u32, data: &mut [u8]) -> io::Result<()> {
    data[..4].copy_from_slice(&command.to_ne_bytes());
    // SAFETY: zeros are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.0) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // The ioctl needs any socket of the namespace.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: the request points to `data`, which is as long as the command requires.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_offloads_and_no_queues() {
        let [lo, none] = [b"lo".as_slice(), b"no-such-device"].map(|name| Name::new(name).unwrap());
        let on = features(lo).unwrap();
        assert!(on.contains("tx-tcp-segmentation"), "{on:?}");
        assert!(!on.contains("rx-gro-hw") && !on.contains(""), "{on:?}");
        assert!(channels(lo).is_err());
        assert!(driver(none).is_err());
    }

    #[test]
    fn names_may_be_any_bytes_and_are_not_too_long() {
        let name = Name::new(b"caf\xe9").unwrap();
        assert_eq!((name.as_bytes(), name.to_string()), (&b"caf\xe9"[..], "caf\\xe9".to_owned()));
        assert_eq!(Name::new(b"fifteen-bytes-x").unwrap().as_bytes(), b"fifteen-bytes-x");
        assert_eq!(Name::new(b"sixteen-bytes-xy"), None);
        assert_eq!(self::name(1).unwrap().as_bytes(), b"lo");
    }

    #[test]
    fn texts_end_at_the_first_zero() {
        assert_eq!(text(b"veth\0\0garbage"), "veth");
        assert_eq!(text(b"full"), "full");
    }
}
