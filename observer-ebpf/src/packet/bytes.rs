//! Bounded reads of packet bytes, from any source.

/// Bytes of one frame, from its link header on.
pub trait PacketBytes {
    /// True if the reader follows VLAN tags and IPv6 extension headers. If false, they give
    /// [`Skip::Chain`](super::Skip::Chain), which keeps the path of all other packets short.
    const FOLLOWS_CHAINS: bool;

    /// The `N` bytes at `offset`; `None` if they cannot all be read.
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]>;

    /// Returns `value`. In the kernel, the verifier loses its history: otherwise it verifies every
    /// path to a header of a chain separately, and each header doubles their number.
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        value
    }

    /// [`forget`](Self::forget), for 64 bits.
    #[inline(always)]
    fn forget_long(&self, value: u64) -> u64 {
        value
    }
}

impl PacketBytes for [u8] {
    const FOLLOWS_CHAINS: bool = true;

    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        self.get(offset as usize..)?.first_chunk()
    }
}

/// The `N` bytes at `offset`; `None` if they cannot all be read or reach beyond `end`, the end of
/// the packet. Bytes after it are padding of the frame.
#[inline(always)]
pub(super) fn within<const N: usize, B: PacketBytes + ?Sized>(
    bytes: &B,
    offset: u32,
    end: u32,
) -> Option<&[u8; N]> {
    if offset + N as u32 > end { None } else { bytes.at(offset) }
}

/// `M` bytes at `at` of a header of `N` bytes. The offset must be a constant.
#[inline(always)]
pub(super) const fn field<const M: usize, const N: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    const { assert!(M <= N) };
    assert!(at + M <= N);
    // SAFETY: the assertion above, which the compiler removes where `at` is a constant in bounds.
    unsafe { *header.as_ptr().add(at).cast::<[u8; M]>() }
}
