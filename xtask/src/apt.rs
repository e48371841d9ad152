//! Debian packages: queries, installation into the system, and private unpacking that leaves the
//! system unchanged.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{host, process, progress::Step};

/// Name of the file that lists an unpacked tree's packages with their versions. It is written last.
pub(crate) const STAMP: &str = ".packages";

/// Versions of packages, by name.
type Versions = BTreeMap<String, String>;

/// An apt with the system's sources, or with sources of its own. The free functions use the
/// system's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apt {
    /// Options in front of the arguments of every call; they override the system's settings.
    pub(crate) options: Vec<String>,
}

impl Apt {
    /// A command in the C locale, because only its messages can be parsed.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").args(&self.options);
        command
    }

    fn ask(&self, program: &str, args: &[&str]) -> Result<String> {
        process::output(self.command(program).args(args))
    }

    /// The packages whose names match a regular expression, with their newest versions.
    pub(crate) fn search(&self, names: &str) -> Result<Versions> {
        let found = self.ask("apt-cache", &["search", "--names-only", names])?;
        let names: Vec<&str> = found.lines().filter_map(|line| line.split(' ').next()).collect();
        if names.is_empty() { Ok(BTreeMap::new()) } else { self.versions(&names) }
    }

    fn versions(&self, packages: &[&str]) -> Result<Versions> {
        let mut args = vec!["show", "--no-all-versions"];
        args.extend(packages);
        Ok(versions_in(&self.ask("apt-cache", &args)?))
    }

    /// The packages that `package` depends on.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        Ok(depends_in(&self.ask("apt-cache", &["depends", package])?))
    }

    /// Downloads packages and unpacks them into `tree`, which appears only when it is complete.
    pub(crate) fn unpack(&self, step: &Step, packages: &[String], tree: &Path) -> Result<()> {
        let partial = tree.with_extension("partial");
        remove(&partial)?;
        let debs = partial.join("debs");
        fs::create_dir_all(&debs).with_context(|| format!("{} cannot be made", debs.display()))?;

        step.detail(format!("downloading {} packages", packages.len()));
        let mut download = self.command("apt-get");
        if host::is_root() {
            // apt's own user may not write here, and apt would warn about that.
            download.args(["-o", "APT::Sandbox::User=root"]);
        }
        step.run(download.args(["-q", "download"]).args(packages).current_dir(&debs))
            .context("the packages could not be downloaded: does `apt-get update` work here?")?;

        step.detail(format!("unpacking {} packages", packages.len()));
        for deb in fs::read_dir(&debs)? {
            let deb = deb?.path();
            if deb.extension() == Some(OsStr::new("deb")) {
                step.run(Command::new("dpkg").arg("-x").arg(&deb).arg(&partial))?;
            }
        }
        remove(&debs)?;
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        let mut stamp = File::create(partial.join(STAMP))?;
        for (name, version) in self.versions(&names)? {
            writeln!(stamp, "{name} {version}")?;
        }
        replace(&partial, tree)?;
        step.detail(format!("{} packages", packages.len()));
        Ok(())
    }
}

pub(crate) fn is_here() -> bool {
    host::find_program("apt-get").is_some()
}

/// True if apt knows these packages, after `apt-get update` if it did not before.
pub(crate) fn learn(step: &Step, packages: &[&str]) -> Result<bool> {
    if knows(packages) {
        return Ok(true);
    }
    let names = packages.join(", ");
    update(step, &format!("apt does not know {names}"))?;
    Ok(knows(packages))
}

/// Updates the package lists. Needs root.
pub(crate) fn update(step: &Step, why: &str) -> Result<()> {
    step.aside(process::authorise)?;
    step.detail("apt-get update");
    step.run(apt_get_as_root()?.args(["-q", "update"]))
        .with_context(|| format!("{why}: make `apt-get update` work for root first"))
}

/// Installs packages into the system. Needs root.
pub(crate) fn install(step: &Step, packages: &[&str]) -> Result<()> {
    step.aside(process::authorise)?;
    if !learn(step, packages)? {
        bail!("apt knows no package {}: look at apt's sources", packages.join(" or "));
    }
    let mut apt_get = apt_get_as_root()?;
    apt_get
        .args(["-q", "-o", "Dpkg::Use-Pty=0", "install", "-y", "--no-install-recommends"])
        .args(packages);
    step.detail("apt-get install");
    step.run(&mut apt_get)
        .with_context(|| format!("{} could not be installed", packages.join(", ")))
}

/// The packages that `package` depends on.
pub(crate) fn depends(package: &str) -> Result<Vec<String>> {
    Apt::default().depends(package)
}

/// Libraries that must be installed for these packages to run, as apt's own resolver finds them.
pub(crate) fn missing_libraries(packages: &[&str]) -> Result<Vec<String>> {
    let mut missing = missing(packages)?;
    missing.retain(|name| name.starts_with("lib"));
    Ok(missing)
}

/// Packages that must be installed for these packages to run, these included; development packages
/// excluded.
pub(crate) fn missing(packages: &[&str]) -> Result<Vec<String>> {
    let mut args = vec!["-q", "--simulate", "install", "--no-install-recommends"];
    args.extend(packages);
    Ok(missing_in(&Apt::default().ask("apt-get", &args)?))
}

/// Downloads packages and unpacks them into `tree`, which appears only when it is complete.
pub(crate) fn unpack(step: &Step, packages: &[String], tree: &Path) -> Result<()> {
    Apt::default().unpack(step, packages, tree)
}

fn knows(packages: &[&str]) -> bool {
    Apt::default()
        .versions(packages)
        .is_ok_and(|known| packages.iter().all(|name| known.contains_key(*name)))
}

fn depends_in(answer: &str) -> Vec<String> {
    answer
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

fn versions_in(answer: &str) -> Versions {
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

fn missing_in(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| !name.ends_with("-dev"))
        .map(str::to_owned)
        .collect()
}

fn apt_get_as_root() -> Result<Command> {
    let apt_get = host::find_program("apt-get").unwrap_or_else(|| PathBuf::from("apt-get"));
    process::as_root(&apt_get, &[("DEBIAN_FRONTEND", "noninteractive".into())])
}

/// Renames `new` to `place`, replacing an older file or folder.
fn replace(new: &Path, place: &Path) -> Result<()> {
    let old = place.with_extension("old");
    remove(&old)?;
    if place.exists() {
        fs::rename(place, &old)?;
    }
    fs::rename(new, place)
        .with_context(|| format!("{} could not be put in place", place.display()))?;
    remove(&old)
}

fn remove(tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)
            .with_context(|| format!("{} cannot be removed", tree.display()))?;
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
    fn what_is_for_building_is_not_missing() {
        let simulation = "NOTE: This is only a simulation!\nInst libsctp1 (1.0.19+dfsg-2 Debian:12 [amd64])\n\
                          Inst linux-libc-dev [6.1.187-1] (6.1.192-2 Debian:12 [amd64])\nInst iperf3 (3.12-1 [amd64])\n\
                          Inst libffi-dev (3.4 [amd64])\nConf libsctp1 (1.0.19+dfsg-2 Debian:12 [amd64])\n";
        assert_eq!(missing_in(simulation), ["libsctp1", "iperf3"]);
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
