//! Number and seed of generated packets.

use std::{env, str::FromStr};

/// The arguments of `cargo xtask test --inputs N --seed S`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Number of packets.
    pub(crate) inputs: u64,
    /// Seed of the generator.
    pub(crate) seed: u64,
}

impl Effort {
    /// Reads the environment, with these defaults.
    pub(crate) fn or(inputs: u64, seed: u64) -> Self {
        Self {
            inputs: variable("OBSERVER_FUZZ_INPUTS").unwrap_or(inputs),
            seed: variable("OBSERVER_FUZZ_SEED").unwrap_or(seed),
        }
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}
