use crate::{flow::InterfaceNumber, record::Record};

/// The number of an interface, and one of its records.
pub(super) type Row<'a> = (InterfaceNumber, Record<'a>);
