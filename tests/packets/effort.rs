//! How many packets are generated, and from which seed.

use std::{env, str::FromStr};

/// What `cargo xtask test --inputs N --seed S` asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Packets.
    pub(crate) inputs: u64,
    /// What the generator starts from.
    pub(crate) seed: u64,
}

impl Effort {
    /// From the environment; these where it says nothing.
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
