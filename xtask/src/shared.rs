//! Check that the daemon, xtask and the tests share compiled dependencies: with different features,
//! a dependency and everything above it is compiled twice.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::{paths::Paths, process};

/// Other builds of the same target directory, and the arguments of `cargo tree` that describe them.
const OTHERS: [(&str, &[&str]); 3] = [
    ("xtask", &["-p", "xtask", "-e", "normal,build"]),
    ("the unit tests", &["-p", "observer", "-p", "xtask", "-e", "normal,build,dev"]),
    ("the tests", &["-p", "observer-tests", "-e", "normal,build,dev"]),
];

/// Packages that xtask compiles apart, in seconds: the check of rooms parses Rust with features
/// that derive macros do without, and the check of the eBPF objects only reads ELF.
const APART: [&str; 3] = ["object", "proc-macro2", "syn"];

/// The features of each package: several sets if it is built for the programs and for build
/// scripts.
type Packages = BTreeMap<String, BTreeSet<String>>;

pub(crate) fn check(paths: &Paths) -> Result<()> {
    let daemon = packages(paths, &["-p", "observer", "-e", "normal,build"])?;
    let mut found = Vec::new();
    for (name, arguments) in OTHERS {
        for (package, features) in differences(&daemon, &packages(paths, arguments)?) {
            found.push(format!("{package} of {name} has the features {features}"));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!(
        "compiled twice, because the daemon has other features: {}. Switch the same features on by a dependency in the \
         list \"No code names these\" of Cargo.toml",
        found.join("; ")
    )
}

fn packages(paths: &Paths, arguments: &[&str]) -> Result<Packages> {
    let mut cargo = paths.cargo();
    cargo.args(["tree", "--locked", "--prefix", "none", "--format", "{p}\t{f}"]).args(arguments);
    Ok(packages_in(&process::output(&mut cargo)?))
}

fn packages_in(tree: &str) -> Packages {
    let mut packages = Packages::new();
    for line in tree.lines() {
        let Some((package, features)) = line.trim_end_matches(" (*)").split_once('\t') else {
            continue;
        };
        // Packages of the workspace are printed with their path.
        if !package.contains('/') {
            packages.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    packages
}

/// Packages that the daemon also has, but with other features.
fn differences<'a>(daemon: &'a Packages, other: &'a Packages) -> Vec<(&'a str, &'a str)> {
    let mut differences = Vec::new();
    for (package, sets) in other {
        let is_apart = package.split_once(' ').is_some_and(|(name, _)| APART.contains(&name));
        let Some(known) = daemon.get(package).filter(|_| !is_apart) else { continue };
        differences
            .extend(sets.difference(known).map(|features| (package.as_str(), features.as_str())));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_with_other_features_is_found_and_one_of_its_own_is_not() {
        let daemon = packages_in(
            "observer v0.1.0 (/w/observer)\t\nserde v1.0.0\tstd,derive\nsyn v3.0.9\tfull\nlibc v0.2.1\tstd\n",
        );
        let same = packages_in(
            "xtask v0.1.0 (/w/xtask)\t\nserde v1.0.0\tstd,derive (*)\nsyn v3.0.9\tvisit\ntempfile v3.0.0\t\n",
        );
        assert_eq!(differences(&daemon, &same), []);
        let other = packages_in("serde v1.0.0\tstd\nlibc v0.2.1\tstd\n");
        assert_eq!(differences(&daemon, &other), [("serde v1.0.0", "std")]);
    }
}
