use super::print;
use crate::{app, config::Config, failure::Failure};

/// Removes the programs and maps of an earlier run.
pub(super) fn detach(config: &Config) -> Result<(), Failure> {
    app::detach(config)?;
    print::print("no program of observer is attached, and none of its maps is left\n")
}
