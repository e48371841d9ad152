//! The daemon: all rooms wired together.
//!
//! Owns: the order of starting and stopping, and the threads. In: a configuration, and the signals
//! of the process. Out: nothing; the outputs, the metrics and the programs on interfaces are those
//! of the rooms.
//!
//! ```text
//! watch ──observed interfaces──▶ interfaces ──register, retire──▶ tick ──batches──▶ sinks
//!  (tasks)                        (attach, detach)                 (drain, windows)
//!                                   ▲ removed programs                 ▲
//!                                 witness ──frames that no hook saw────┘
//! ```
//!
//! The threads stop in the same order: each ends after the one before it, so every count reaches a
//! record. A stop waits for each of them for its part of `--stop-timeout` only ([`running`]).

mod absent;
mod attached;
mod attaching;
mod changes;
mod directories;
mod engine;
mod interfaces;
mod leaving;
mod mending;
mod numbers;
pub(crate) mod options;
mod owners;
mod plan;
mod running;
pub(crate) mod runtime;
mod signals;
mod start;
mod tick;
mod watermark;
mod witness;

use self::{engine::Engine, start::Prepared};
use crate::{config::Config, failure::Failure};

/// Runs until a signal stops the daemon.
pub fn run(config: &Config) -> Result<(), Failure> {
    let prepared = Prepared::new(config)?;
    let engine = Engine::load(config, prepared.pins.path(), prepared.budget.flow_memory)?;
    let (running, held) = prepared.start(engine)?;
    running.until_stopped(held)
}
