//! Words of the structures that the loader sets before it loads the program.

/// One word of a structure that the loader sets, by field name: `word!(LAYOUT, KernelLayout,
/// skb_dev)`.
macro_rules! word {
    ($from:ident, $of:ident, $field:ident) => {{
        const AT: usize = core::mem::offset_of!($of, $field) / size_of::<u32>();
        // SAFETY: in bounds; volatile, because the loader changes the value behind the compiler's
        // back.
        unsafe { core::ptr::read_volatile((&raw const $from).cast::<u32>().add(AT)) }
    }};
}

macro_rules! offset {
    ($field:ident) => {
        word!(LAYOUT, KernelLayout, $field)
    };
}

pub(super) use {offset, word};
