//! Lengths of frames that the kernel accepts for a test run (`BPF_PROG_TEST_RUN`).

/// Maximum length of a frame for a test run: a page, less the kernel's overhead.
pub(crate) const MOST: usize = 3500;

/// Minimum length of a frame: recent kernels require a whole IP header behind its EtherType, except
/// behind a VLAN tag. Live interfaces do not.
pub(crate) fn least(bytes: &[u8]) -> usize {
    match bytes.get(12..14) {
        Some([0x08, 0x00]) => 14 + 20,
        Some([0x86, 0xdd]) => 14 + 40,
        _ => 15,
    }
}

/// True if the kernel accepts a frame for a test run.
pub(crate) fn is_taken(bytes: &[u8]) -> bool {
    (least(bytes)..=MOST).contains(&bytes.len())
}
