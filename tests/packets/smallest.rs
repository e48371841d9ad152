//! Makes a packet that shows a mistake as small as it can be: what is left of it is what matters.

use observer_ebpf::packet::Offload;

use super::Input;

/// The smallest packet found that is still `wrong`.
pub(crate) fn smallest(mut input: Input, mut wrong: impl FnMut(&Input) -> bool) -> Input {
    loop {
        let found = smaller(&input).find(|smaller| wrong(smaller));
        match found {
            Some(smaller) => input = smaller,
            None => return input,
        }
    }
}

/// What is a little less than `input`, in a measure that ends: fewer bytes, fewer bytes that are not 0.
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
