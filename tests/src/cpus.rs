//! CPUs, and threads pinned to them.

use std::{panic, thread};

use anyhow::Result;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// CPUs that this process may use.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Pins this thread to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    let mut here = CpuSet::new();
    here.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &here)?)
}

/// Runs `work` on every CPU at once, on pinned threads. Results are in the order of [`allowed`].
pub fn on_each<T: Send>(work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let (cpus, work) = (allowed()?, &work);
    thread::scope(|scope| {
        let run = |cpu: usize| {
            pin(cpu)?;
            work(cpu)
        };
        let threads: Vec<_> = cpus.into_iter().map(|cpu| scope.spawn(move || run(cpu))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    })
}
