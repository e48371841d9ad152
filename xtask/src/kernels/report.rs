//! The results of a guest, parsed from the lines that `init.sh` prints around the tests' output.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::image::Task;

pub(super) const MARK: &str = "@@@ ";

/// The results received so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    runs: Vec<Run>,
    trouble: Vec<String>,
    done: bool,
    /// True once `init` has printed its first line.
    pub(super) awake: bool,
}

/// A test program that was started.
#[derive(Debug, Default)]
struct Run {
    name: String,
    tests: BTreeSet<String>,
    status: Option<String>,
}

impl Report {
    /// Processes a line; returns true if it should be shown.
    pub(super) fn take(&mut self, line: &str) -> bool {
        let Some(said) = line.strip_prefix(MARK) else {
            if let (Some(run), Some(test)) = (self.runs.last_mut(), test_in(line)) {
                run.tests.insert(test.to_owned());
            }
            return true;
        };
        match said.split_once(' ').unwrap_or((said, "")) {
            ("begin", name) => self.runs.push(Run { name: name.to_owned(), ..Run::default() }),
            ("end", ended) => {
                let status = ended.rsplit(' ').next().unwrap_or(ended);
                if let Some(run) = self.runs.last_mut() {
                    run.status = Some(status.to_owned());
                }
            }
            ("trouble:", what) => self.trouble.push(what.to_owned()),
            ("done", _) => self.done = true,
            _ => self.awake = true,
        }
        false
    }

    /// Returns an error unless every planned test ran and passed.
    pub(super) fn judge(&self, tasks: &[Task]) -> Result<()> {
        let mut wrong = self.trouble.clone();
        for task in tasks {
            match self.runs.iter().find(|run| run.name == task.name) {
                None => wrong.push(format!("{} was not started", task.name)),
                Some(run) => wrong.extend(run.judge(task)),
            }
        }
        if !self.done {
            wrong.push("the guest ended early".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("; ")) }
    }
}

impl Run {
    fn judge(&self, task: &Task) -> Vec<String> {
        let name = &self.name;
        match self.status.as_deref() {
            Some("0") => {
                let missing = task.tests.iter().filter(|test| !self.tests.contains(*test));
                missing.map(|test| format!("{name} passed without {test}")).collect()
            }
            Some(status) => vec![format!("{name} failed with status {status}")],
            None => vec![format!("{name} came to no end")],
        }
    }
}

/// The test's name in a line of the test harness.
fn test_in(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.split_once(" ... ").map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(tests: &[&str], lines: &[&str]) -> String {
        let tests = tests.iter().map(|&word| word.to_owned()).collect();
        let task = Task { name: "e2e".into(), program: "/e2e".into(), args: Vec::new(), tests };
        let mut report = Report::default();
        for line in lines {
            report.take(line);
        }
        report.judge(&[task]).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn all_that_was_planned_must_run_and_pass() {
        let all =
            ["@@@ awake", "@@@ begin e2e", "test flows::a ... ok", "@@@ end e2e 0", "@@@ done"];
        assert_eq!(verdict(&["flows::a"], &all), "");
        assert_eq!(verdict(&[], &all), "");
        assert_eq!(verdict(&["flows::a", "hooks::b"], &all), "e2e passed without hooks::b");
        assert_eq!(verdict(&[], &all[..4]), "the guest ended early");
        assert_eq!(verdict(&[], &all[..3]), "e2e came to no end; the guest ended early");
        assert_eq!(verdict(&[], &["@@@ done"]), "e2e was not started");
        assert_eq!(
            verdict(&[], &["@@@ begin e2e", "@@@ end e2e 101", "@@@ done"]),
            "e2e failed with status 101"
        );
        let trouble = ["@@@ trouble: lo is not up", all[1], all[3], all[4]];
        assert_eq!(verdict(&[], &trouble), "lo is not up");
    }

    #[test]
    fn the_lines_between_the_marks_are_for_people() {
        let mut report = Report::default();
        assert!(!report.take("@@@ begin e2e"));
        assert!(report.take("test flows::a ... ok"));
    }
}
