//! The comparison of one field.

use std::fmt::Debug;

use thiserror::Error;

/// A field in which the parser and tshark disagree.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Disagreement(pub(super) String);

pub(super) fn same<T: Copy + PartialEq + Debug>(
    field: &str,
    ours: T,
    theirs: T,
) -> Result<(), Disagreement> {
    if ours == theirs {
        Ok(())
    } else {
        Err(Disagreement(format!("{field}: {ours:?}, tshark {theirs:?}")))
    }
}
