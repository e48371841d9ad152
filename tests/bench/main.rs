//! What observer costs, each figure beside its floor, taken in one run. `cargo xtask bench NAME` runs it.

mod kernel;
mod report;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "kernel".into());
    let report = match name.as_str() {
        "kernel" => kernel::run()?,
        _ => bail!("no benchmark is called {name:?}: there is `kernel`"),
    };
    report.print();
    report.save(&name)
}
