//! Which CPUs work: where senders run.

use std::{panic, thread};

use anyhow::Result;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Those that we may run on.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Has this thread run on one CPU only.
pub fn pin(cpu: usize) -> Result<()> {
    let mut here = CpuSet::new();
    here.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &here)?)
}

/// Runs `work` on every CPU at once, on threads that stay there. In the order of [`allowed`].
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
