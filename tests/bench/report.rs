//! A table for people and the same rows as JSON for machines.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The cheapest thing that does the same to the packet, in the same unit and run.
    pub(crate) floor: f64,
    pub(crate) ratio: f64,
    pub(crate) target: Option<f64>,
    pub(crate) met: Option<bool>,
    /// Least and most of the rounds.
    pub(crate) spread: (f64, f64),
}

/// The rows of one benchmark.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure: the median of `rounds`, with the median of the floor's; `target` bounds the ratio from above.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        rounds: &[f64],
        floor: &[f64],
        target: Option<f64>,
    ) {
        let (value, spread) = median(rounds);
        let (floor, _) = median(floor);
        let ratio = value / floor;
        let met = target.map(|target| ratio <= target);
        self.rows.push(Row { name: name.into(), value, unit, floor, ratio, target, met, spread });
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let wide = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        println!(
            "{:wide$}  {:>8} {:>19} {:>8} {:>7}  target",
            "", "median", "(least to most)", "floor", "ratio"
        );
        for row in &self.rows {
            let Row { name, value, unit, floor, ratio, target, met, spread: (least, most) } = row;
            let target = match (target, met) {
                (Some(target), Some(true)) => format!("<= {target:.2} met"),
                (Some(target), _) => format!("<= {target:.2} MISSED"),
                _ => String::new(),
            };
            println!(
                "{name:wide$}  {value:>5.0} {unit:2} {:>19} {floor:>5.0} {unit:2} {ratio:>7.2}  {target}",
                format!("({least:.0} to {most:.0})")
            );
        }
    }

    /// Writes `NAME.json` where the benchmarks of the project lie.
    pub(crate) fn save(&self, name: &str) -> Result<()> {
        let directory =
            env::var_os("OBSERVER_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        let path = directory.join(format!("{name}.json"));
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("writing {}", path.display()))?;
        println!("\nthe same for machines: {}", path.display());
        Ok(())
    }
}

fn median(rounds: &[f64]) -> (f64, (f64, f64)) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => (sorted[sorted.len() / 2], (*least, *most)),
        _ => (f64::NAN, (f64::NAN, f64::NAN)),
    }
}
