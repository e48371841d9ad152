//! Texts as sources may give them, for tests.

use fastrand::Rng;

const PIECES: [&str; 32] = [
    "", "-", " ", "  ", "\t", "\n", "\r\n", "\r", "\0", "\u{b}", "\u{c}", "\u{1b}[31m", "\u{85}", "\u{a0}",
    "\u{2028}", "\u{2029}", "\u{200b}", "\u{202e}", "\u{feff}", "\u{fffd}", "\u{10ffff}", "\"", "'", "\\", ",",
    "{\"a\":1}", "${srcaddr}", "null", "é", "日本", "a", "eni-0a",
];

/// A text as a source may give it.
pub(crate) fn hostile(random: &mut Rng) -> String {
    match random.u8(..10) {
        0 => random.choice(["", "-"]).unwrap_or_default().to_owned(),
        1 => PIECES[random.usize(..PIECES.len())].repeat(random.usize(1..10_000)),
        // Bytes that are no UTF-8, as they are read from a kernel or a capture.
        2 => String::from_utf8_lossy(&std::array::from_fn::<_, 24, _>(|_| random.u8(..))).into_owned(),
        _ => (0..random.usize(1..6)).map(|_| PIECES[random.usize(..PIECES.len())]).collect(),
    }
}
