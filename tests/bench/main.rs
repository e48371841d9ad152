//! Benchmarks of observer, each compared with a baseline in the same run. `cargo xtask bench
//! [NAME]` runs them.

#![allow(clippy::print_stdout, reason = "that is what it is for")]

mod attach;
mod drain;
mod kernel;
mod live;
mod packets;
mod place;
mod records;
mod report;

use anyhow::{Result, bail};
use report::Report;

type Run = fn() -> Result<Report>;

/// All benchmarks, in the order in which they run without a name.
const BENCHES: [(&str, Run); 5] = [
    ("kernel", kernel::run),
    ("drain", drain::run),
    ("live", live::run),
    ("records", records::run),
    ("attach", attach::run),
];

fn main() -> Result<()> {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| BENCHES.iter().all(|(known, _)| known != name))
    {
        let names: Vec<_> = BENCHES.iter().map(|(name, _)| *name).collect();
        bail!("no benchmark is called {unknown:?}: there are {}", names.join(", "));
    }
    for (name, run) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let report = run()?;
            report.print();
            report.save(name)?;
        }
    }
    Ok(())
}
