//! Skipped tests. A skipped test prints `SKIP name: reason`; CI fails on a skip that is not
//! expected.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

/// A skipped test and its reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skip {
    name: String,
    why: String,
}

impl Skip {
    /// A skip of something that holds tests but is not one, such as a kernel.
    pub(crate) fn new(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), why: why.into() }
    }

    /// Parses the skip in a line of test output.
    pub(crate) fn in_line(line: &str) -> Option<Self> {
        // With one test thread, the harness has already printed the beginning of the line.
        let line = match line.split_once(" ... SKIP ") {
            Some((before, skip)) if before.starts_with("test ") => skip,
            _ => line.strip_prefix("SKIP ")?,
        };
        let (name, why) = line.split_once(": ").unwrap_or((line, ""));
        Some(Self { name: name.trim().to_owned(), why: why.trim().to_owned() })
    }

    /// The same skip, prefixed with the kernel of a guest.
    pub(crate) fn on(self, kernel: &str) -> Self {
        Self { name: format!("{kernel}/{}", self.name), ..self }
    }
}

/// Prints the skips. In CI, a skip that is missing in all of `lists` is an error.
pub(crate) fn judge(skips: &[Skip], lists: &[PathBuf]) -> Result<()> {
    if !skips.is_empty() {
        println!("    {} skipped", skips.len());
    }
    for Skip { name, why } in skips {
        println!("    skipped {name}: {why}");
    }
    if std::env::var_os("CI").is_none() {
        return Ok(());
    }
    let mut text = String::new();
    for list in lists {
        match fs::read_to_string(list) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            read => text += &read.with_context(|| format!("{} cannot be read", list.display()))?,
        }
    }
    let unexpected = unexpected(skips, &names_in(&text));
    if !unexpected.is_empty() {
        let lists: Vec<String> = lists.iter().map(|list| list.display().to_string()).collect();
        bail!("skipped, but not listed in {}: {}", lists.join(" or "), unexpected.join(", "));
    }
    Ok(())
}

/// The names in a list of expected skips; text after `#` is a comment.
pub(crate) fn names_in(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

fn unexpected<'a>(skips: &'a [Skip], expected: &BTreeSet<&str>) -> Vec<&'a str> {
    skips.iter().map(|skip| skip.name.as_str()).filter(|name| !expected.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(name: &str, why: &str) -> Skip {
        Skip::new(name, why)
    }

    #[test]
    fn a_skip_is_a_line_that_begins_with_the_word() {
        let check = |line: &str, expected: Option<Skip>| assert_eq!(Skip::in_line(line), expected);
        check("SKIP xdp_counts: needs Linux 5.18", Some(skip("xdp_counts", "needs Linux 5.18")));
        check(
            "SKIP e2e::vlan: no 8021q: module missing",
            Some(skip("e2e::vlan", "no 8021q: module missing")),
        );
        check("SKIP bare", Some(skip("bare", "")));
        check("test vlan ... SKIP vlan: no 8021q", Some(skip("vlan", "no 8021q")));
        check("test vlan ... ok", None);
        check("SKIPDATA is a status", None);
        check("a record says ... SKIP nothing", None);
    }

    #[test]
    fn comments_and_empty_lines_are_no_expectations() {
        let list = "# this kernel has no 8021q\nvlan\n\n  qinq  # nor this\n#\n";
        assert_eq!(names_in(list), BTreeSet::from(["vlan", "qinq"]));
    }

    #[test]
    fn only_listed_skips_are_expected() {
        let skips = [skip("vlan", "no 8021q"), skip("xdp", "old kernel")];
        assert_eq!(unexpected(&skips, &names_in("vlan\n")), ["xdp"]);
        assert!(unexpected(&skips, &names_in("vlan\nxdp\n")).is_empty());
    }
}
