//! Minimisation of packets that show a mistake.

use observer_ebpf::packet::Offload;

use super::Input;

/// Removes and zeroes bytes of `input` as long as the result is still `wrong`.
pub(crate) fn smallest(mut input: Input, mut wrong: impl FnMut(&Input) -> bool) -> Input {
    loop {
        let found = smaller(&input).find(|smaller| wrong(smaller));
        match found {
            Some(smaller) => input = smaller,
            None => return input,
        }
    }
}

/// Slightly smaller variants of `input`: fewer bytes, or fewer bytes that are not 0, so that the
/// search ends.
fn smaller(input: &Input) -> impl Iterator<Item = Input> {
    let len = input.bytes.len();
    let ends = [len / 2, len.saturating_sub(8), len.saturating_sub(1)];
    let shortened = ends.into_iter().filter(move |end| *end < len).map(|end| input.shortened(end));
    let whole = input.is_snapped().then(|| input.shortened(len));
    let plain = (input.frame.offload.size != 0).then(|| {
        let mut plain = input.clone();
        plain.frame.offload = Offload { size: 0, segments: 0 };
        plain
    });
    let zeroed = (0..len).filter(|at| input.bytes[*at] != 0).map(|at| {
        let mut zeroed = input.clone();
        zeroed.bytes[at] = 0;
        zeroed
    });
    shortened.chain(whole).chain(plain).chain(zeroed)
}
