//! Debian packages: what apt knows, what it installs, and what is unpacked privately without touching the system.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    host,
    process::{self, Step},
};

/// Written last into an unpacked tree: the packages in it, with their versions.
pub(crate) const STAMP: &str = ".packages";

pub(crate) fn is_here() -> bool {
    host::find_program("apt-get").is_some()
}

/// Whether apt knows these packages, after `apt-get update` if it did not before.
pub(crate) fn learn(packages: &[&str]) -> Result<bool> {
    if knows(packages) {
        return Ok(true);
    }
    let step = Step::begin(&format!("apt-get update, because apt does not know {}", packages.join(", ")));
    process::check(apt_get_as_root()?.args(["-q", "update"])).with_context(|| {
        format!("apt does not know {}: make `apt-get update` work for root first", packages.join(", "))
    })?;
    step.end();
    Ok(knows(packages))
}

/// Installs into the system, which needs root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if !learn(packages)? {
        bail!("apt knows no package {}: look at apt's sources", packages.join(" or "));
    }
    let mut apt_get = apt_get_as_root()?;
    apt_get.args(["-q", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends"]).args(packages);
    process::check(&mut apt_get).with_context(|| format!("{} could not be installed", packages.join(", ")))
}

/// The packages that `package` depends on.
pub(crate) fn depends(package: &str) -> Result<Vec<String>> {
    Ok(depends_in(&ask("apt-cache", &["depends", package])?))
}

/// The libraries that the system lacks for these packages to run: apt's own resolver knows.
pub(crate) fn missing_libraries(packages: &[&str]) -> Result<Vec<String>> {
    let mut args = vec!["-q", "--simulate", "install", "--no-install-recommends"];
    args.extend(packages);
    Ok(libraries_in(&ask("apt-get", &args)?))
}

/// Downloads packages and unpacks them into `tree`, which appears only when it is complete.
pub(crate) fn unpack(packages: &[String], tree: &Path) -> Result<()> {
    let partial = tree.with_extension("partial");
    remove(&partial)?;
    let debs = partial.join("debs");
    fs::create_dir_all(&debs).with_context(|| format!("{} cannot be made", debs.display()))?;

    let step = Step::begin(&format!("downloading {} packages", packages.len()));
    let mut download = quiet("apt-get");
    if host::is_root() {
        // apt's own user may not write here; as that is no fault, apt should not warn about it.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    process::check(download.args(["-q", "download"]).args(packages).current_dir(&debs))
        .context("the packages could not be downloaded: does `apt-get update` work here?")?;
    step.end();

    let step = Step::begin(&format!("unpacking them into {}", tree.display()));
    for deb in fs::read_dir(&debs)? {
        let deb = deb?.path();
        if deb.extension() == Some(OsStr::new("deb")) {
            process::check(Command::new("dpkg").arg("-x").arg(&deb).arg(&partial))?;
        }
    }
    remove(&debs)?;
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let mut stamp = File::create(partial.join(STAMP))?;
    for (name, version) in versions(&names)? {
        writeln!(stamp, "{name} {version}")?;
    }
    replace(&partial, tree)?;
    step.end();
    Ok(())
}

fn knows(packages: &[&str]) -> bool {
    versions(packages).is_ok_and(|known| packages.iter().all(|name| known.contains_key(*name)))
}

fn versions(packages: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut args = vec!["show", "--no-all-versions"];
    args.extend(packages);
    Ok(versions_in(&ask("apt-cache", &args)?))
}

fn depends_in(answer: &str) -> Vec<String> {
    answer
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

fn versions_in(answer: &str) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut package = None;
    for line in answer.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            package = Some(name.to_owned());
        } else if let Some(version) = line.strip_prefix("Version: ") {
            versions.extend(package.take().map(|name| (name, version.to_owned())));
        }
    }
    versions
}

fn libraries_in(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| name.starts_with("lib") && !name.ends_with("-dev"))
        .map(str::to_owned)
        .collect()
}

/// Only the C locale's words can be read reliably.
fn quiet(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

fn ask(program: &str, args: &[&str]) -> Result<String> {
    process::output(quiet(program).args(args))
}

fn apt_get_as_root() -> Result<Command> {
    let apt_get = host::find_program("apt-get").unwrap_or_else(|| PathBuf::from("apt-get"));
    process::as_root(&apt_get, &[("DEBIAN_FRONTEND", "noninteractive".into())])
}

/// Renames `new` to `place`, where an older one may stand.
fn replace(new: &Path, place: &Path) -> Result<()> {
    let old = place.with_extension("old");
    remove(&old)?;
    if place.exists() {
        fs::rename(place, &old)?;
    }
    fs::rename(new, place).with_context(|| format!("{} could not be put in place", place.display()))?;
    remove(&old)
}

fn remove(tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree).with_context(|| format!("{} cannot be removed", tree.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_leave_out_conflicts_and_recommendations() {
        let answer = "libstd-rust-web-dev\n  PreDepends: dpkg\n  Depends: libstd-rust-web-1.96\n |Depends: gcc\n  \
                      Depends: <libc-dev>\n    libc6-dev\n  Conflicts: <rustup>\n  Recommends: cargo-web\n";
        assert_eq!(depends_in(answer), ["libstd-rust-web-1.96", "gcc", "<libc-dev>"]);
    }

    #[test]
    fn every_package_has_its_own_version() {
        let answer = "Package: iperf3\nSource: x\nVersion: 3.12-1\nDepends: libc6 (>= 2.34)\n\n\
                      Package: libllvm22\nVersion: 1:22.1.8-1~deb12u1\n";
        let versions = versions_in(answer);
        assert_eq!(versions["iperf3"], "3.12-1");
        assert_eq!(versions["libllvm22"], "1:22.1.8-1~deb12u1");
        assert_eq!(versions.len(), 2);
    }

    #[test]
    fn only_libraries_count_as_missing_libraries() {
        let simulation = "NOTE: This is only a simulation!\nInst libsctp1 (1.0.19+dfsg-2 Debian:12 [amd64])\n\
                          Inst linux-libc-dev [6.1.187-1] (6.1.192-2 Debian:12 [amd64])\nInst iperf3 (3.12-1 [amd64])\n\
                          Inst libffi-dev (3.4 [amd64])\nConf libsctp1 (1.0.19+dfsg-2 Debian:12 [amd64])\n";
        assert_eq!(libraries_in(simulation), ["libsctp1"]);
    }

    #[test]
    fn a_new_tree_takes_the_place_of_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let (new, place) = (folder.path().join("tree.partial"), folder.path().join("tree"));
        for (tree, file) in [(&place, "old"), (&new, "new")] {
            fs::create_dir(tree).unwrap();
            fs::write(tree.join(file), "").unwrap();
        }
        replace(&new, &place).unwrap();
        assert!(place.join("new").exists() && !place.join("old").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
