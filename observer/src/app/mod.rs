//! The daemon: all rooms wired together.
//!
//! Owns: the order of starting and stopping, and the threads. In: a configuration, and the signals
//! of the process. Out: nothing of its own. Outputs, metrics and attached programs belong to other
//! rooms.
//!
//! ```text
//! watch ──observed interfaces──▶ interfaces ──register, retire──▶ tick ──batches──▶ sinks
//!  (tasks)                        (attach, detach)                 (drain, windows)
//!                                   ▲ removed programs                 ▲
//!                                 witness ──frames that no hook saw────┘
//! ```
//!
//! The threads stop in the same order. Each ends after the one before it, so that every count
//! reaches a record. A stop waits for each thread only for its part of `--stop-timeout`
//! ([`running`]).

mod attached;
mod attaching;
mod changes;
mod detach;
mod detached;
mod directories;
mod dropped;
mod engine;
mod interfaces;
mod leaving;
mod numbers;
pub(crate) mod options;
mod owners;
mod plan;
mod reattach;
mod running;
pub(crate) mod runtime;
mod saved;
mod signals;
mod start;
mod take_over;
mod taking_over;
mod tick;
mod watermark;
mod witness;

pub(crate) use self::detach::detach;
use self::{engine::Engine, start::Prepared};
use crate::{config::Config, failure::Failure};

/// Runs the daemon until a signal stops it.
pub fn run(config: &Config) -> Result<(), Failure> {
    let prepared = Prepared::new(config)?;
    let engine = Engine::load(config, &prepared.pins, prepared.budget.flow_memory)?;
    let (running, held) = prepared.start(engine)?;
    running.until_stopped(held)
}
