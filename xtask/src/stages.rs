//! Stages that run one after the other, even after a failure, and their summary.

use std::time::Instant;

use anyhow::{Result, bail};

#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    passed: bool,
    seconds: f64,
}

impl Stages {
    pub(crate) fn run(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        println!("==> {name} …");
        let began = Instant::now();
        let result = work();
        self.add(name, &result, began.elapsed().as_secs_f64());
    }

    /// Adds the result of a stage that ran elsewhere.
    pub(crate) fn add(&mut self, name: &str, result: &Result<()>, seconds: f64) {
        if let Err(error) = result {
            eprintln!("error: {name}: {error:#}");
        }
        self.done.push(Stage { name: name.to_owned(), passed: result.is_ok(), seconds });
    }

    /// Prints a line per stage and fails if one of them did.
    pub(crate) fn finish(self) -> Result<()> {
        println!("==> summary");
        for Stage { name, passed, seconds } in &self.done {
            println!(
                "    {name:<22} {:<6} {seconds:>7.1} s",
                if *passed { "passed" } else { "FAILED" }
            );
        }
        let failed: Vec<&str> = self
            .done
            .iter()
            .filter(|stage| !stage.passed)
            .map(|stage| stage.name.as_str())
            .collect();
        if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_stage_does_not_hide_the_later_ones() {
        let mut stages = Stages::default();
        let mut ran = false;
        stages.run("first", || bail!("no"));
        stages.run("second", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        assert_eq!(stages.finish().unwrap_err().to_string(), "failed: first");
    }
}
