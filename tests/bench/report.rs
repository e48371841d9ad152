//! A table for people, and the same rows as JSON.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

/// One measured value.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The baseline: the cheapest alternative, in the same unit and run.
    pub(crate) floor: f64,
    pub(crate) ratio: f64,
    /// Upper bound of `value` or `ratio`, according to `target_of`.
    pub(crate) target: Option<f64>,
    pub(crate) target_of: Option<&'static str>,
    pub(crate) met: Option<bool>,
    /// Minimum and maximum of the rounds.
    pub(crate) spread: (f64, f64),
}

/// An upper bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// A multiple of the baseline.
    Ratio(f64),
    /// An absolute value.
    Value(f64),
}

/// The rows of one benchmark.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a row: the medians of `rounds` and of the baseline.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        rounds: &[f64],
        floor: &[f64],
        target: Option<Target>,
    ) {
        let (value, spread) = median(rounds);
        let (floor, _) = median(floor);
        let ratio = value / floor;
        let (target, target_of, met) = match target {
            Some(Target::Ratio(most)) => (Some(most), Some("ratio"), Some(ratio <= most)),
            Some(Target::Value(most)) => (Some(most), Some("value"), Some(value <= most)),
            None => (None, None, None),
        };
        self.rows.push(Row {
            name: name.into(),
            value,
            unit,
            floor,
            ratio,
            target,
            target_of,
            met,
            spread,
        });
    }

    /// Adds a row of alternating windows: the median of the ratios of neighbours, which changes of
    /// the machine's speed affect equally.
    pub(crate) fn paired(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        windows: &[f64],
        floors: &[f64],
        most: f64,
    ) {
        let ratios: Vec<_> =
            windows.iter().zip(floors).map(|(window, floor)| window / floor).collect();
        let (ratio, _) = median(&ratios);
        self.row(name, unit, windows, floors, None);
        if let Some(row) = self.rows.last_mut() {
            (row.ratio, row.target, row.target_of, row.met) =
                (ratio, Some(most), Some("ratio"), Some(ratio <= most));
        }
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let wide = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        println!(
            "\n{:wide$}  {:>11} {:>21} {:>11} {:>6}  target",
            "what · beside what", "median", "(least to most)", "floor", "ratio"
        );
        for row in &self.rows {
            let Row { name, value, unit, floor, ratio, spread: (least, most), .. } = row;
            let verdict = if row.met == Some(true) { "met" } else { "MISSED" };
            let target = match (row.target, row.target_of) {
                (Some(target), Some("value")) => format!("<= {target} {unit} {verdict}"),
                (Some(target), _) => format!("<= {target:.2} {verdict}"),
                _ => String::new(),
            };
            let (value, floor) =
                (format!("{} {unit}", short(*value)), format!("{} {unit}", short(*floor)));
            let spread = format!("({} to {})", short(*least), short(*most));
            println!("{name:wide$}  {value:>11} {spread:>21} {floor:>11} {ratio:>6.2}  {target}");
        }
    }

    /// Writes `NAME.json` to the benchmarks' result folder.
    pub(crate) fn save(&self, name: &str) -> Result<()> {
        let directory = env::var_os("OBSERVER_BENCH_DIR")
            .map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
        fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
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

/// Formats a value with three significant digits.
fn short(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
