//! Debian suites other than the system's own, read by an apt whose files are all below the target
//! directory.
//!
//! The mirrors are those of the system's own sources.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Version;
use crate::{
    apt::{self, Apt},
    paths::Paths,
    process,
    progress::Step,
};

/// Archive label and suite for each age of kernels. Their indexes are small.
const SUITES: [(&str, &str); 4] = [
    ("Debian-Security", "bullseye-security"),
    ("Debian-Security", "bookworm-security"),
    ("Debian-Security", "trixie-security"),
    ("Debian", "trixie-backports"),
];

/// Debian's kernels for virtual machines: they have few drivers and boot quickly.
const KERNELS: &str = "^linux-image-[0-9.]+.*-cloud-amd64$";
const PACKAGE: &str = "linux-image-";
/// Newer kernels are split into several packages; the image package is empty.
const PARTS: [&str; 2] = ["linux-binary-", "linux-modules-"];

/// The kernels of the suites.
#[derive(Debug)]
pub(super) struct Suites {
    apt: Apt,
    /// Packages with their versions.
    kernels: BTreeMap<String, String>,
    /// The error message of apt if it could not read all suites.
    trouble: Option<String>,
}

impl Suites {
    /// Downloads the indexes from the mirrors.
    pub(super) fn open(paths: &Paths) -> Result<Self> {
        let step = Step::begin("looking which kernels there are");
        let folder = paths.kernels().join("apt");
        for name in ["lists/partial", "cache/archives/partial"] {
            let folder = folder.join(name);
            fs::create_dir_all(&folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        fs::write(folder.join("sources.list"), sources(&mirrors(&step)?)?)?;
        fs::write(folder.join("status"), "")?;
        let apt = Apt { options: options(&folder) };
        // A suite that has moved must not hide the kernels of the others.
        let trouble = process::output(apt.command("apt-get").args(["-q", "update"])).err();
        let kernels = apt.search(KERNELS)?;
        step.end();
        Ok(Self { apt, kernels, trouble: trouble.map(|error| format!("{error:#}")) })
    }

    /// The packages of the newest kernel of a version.
    pub(super) fn packages(&self, version: Version) -> Result<Vec<String>> {
        let Some(image) = newest(&self.kernels, version) else {
            let trouble = self.trouble.as_deref().unwrap_or("apt's suites have none");
            bail!("no package of Linux {version}: {trouble}");
        };
        let mut packages = vec![image.to_owned()];
        let depends = self.apt.depends(image)?;
        packages.extend(
            depends.into_iter().filter(|name| PARTS.iter().any(|part| name.starts_with(part))),
        );
        Ok(packages)
    }

    pub(super) fn unpack(&self, step: &Step, packages: &[String], tree: &Path) -> Result<()> {
        self.apt.unpack(step, packages, tree)
    }
}

/// The image with the highest version.
fn newest(kernels: &BTreeMap<String, String>, wanted: Version) -> Option<&str> {
    let mut candidates: Vec<_> = kernels
        .iter()
        // a metapackage, without a full version in its name, depends on the newest image
        .filter(|(name, _)| {
            name[PACKAGE.len()..].split('-').next().is_some_and(|it| it.matches('.').count() >= 2)
        })
        .filter(|(_, version)| wanted.includes(version))
        .collect();
    candidates.sort_by_key(|(_, version)| numbers(version));
    candidates.last().map(|(name, _)| name.as_str())
}

/// The numbers in a version. A rebuild for an older suite counts as its original version.
fn numbers(version: &str) -> Vec<u32> {
    let original = version.split('~').next().unwrap_or(version);
    original.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// URLs of package archives, by the label of the archive.
type Mirrors = BTreeMap<String, String>;

/// The mirrors in the system's sources, by archive label.
fn mirrors(step: &Step) -> Result<Mirrors> {
    let ask = || {
        let mut command = Command::new("apt-get");
        command.args(["indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"]);
        Ok::<_, anyhow::Error>(mirrors_in(&process::output(&mut command)?))
    };
    let complete = |mirrors: &Mirrors| SUITES.iter().all(|(label, _)| mirrors.contains_key(*label));
    let mut mirrors = ask()?;
    if !complete(&mirrors) {
        apt::update(step, "it does not know what its sources hold")?;
        mirrors = ask()?;
    }
    Ok(mirrors)
}

fn mirrors_in(answer: &str) -> Mirrors {
    answer
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(label, uri)| (label.to_owned(), uri.to_owned()))
        .collect()
}

fn sources(mirrors: &Mirrors) -> Result<String> {
    let keyring = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    let options = if keyring.exists() {
        format!("[signed-by={}] ", keyring.display())
    } else {
        String::new()
    };
    SUITES
        .iter()
        .map(|(label, suite)| {
            let mirror = mirrors.get(*label).with_context(|| {
                format!("apt's sources name no mirror of {label}, where {suite} would be")
            })?;
            Ok(format!("deb {options}{mirror} {suite} main\n"))
        })
        .collect()
}

fn options(folder: &Path) -> Vec<String> {
    let own = |name: &str, path: PathBuf| format!("{name}={}", path.display());
    let settings = [
        own("Dir::State", folder.to_path_buf()),
        own("Dir::State::lists", folder.join("lists")),
        own("Dir::State::status", folder.join("status")),
        own("Dir::Cache", folder.join("cache")),
        own("Dir::Etc::sourcelist", folder.join("sources.list")),
        "Dir::Etc::sourceparts=/dev/null".into(),
        "Acquire::Languages=none".into(),
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        // A suite that is no longer maintained still has its last kernels.
        "Acquire::Check-Valid-Until=false".into(),
        // apt's own user may not write here.
        "APT::Sandbox::User=root".into(),
    ];
    settings.into_iter().flat_map(|setting| ["-o".into(), setting]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_taken_whatever_its_suite() {
        let kernels: BTreeMap<String, String> = [
            ("linux-image-5.10.0-46-cloud-amd64", "5.10.262-1"),
            ("linux-image-6.1-cloud-amd64", "6.1.192-2"),
            ("linux-image-6.1.0-0.deb11.52-cloud-amd64", "6.1.190-1~deb11u1"),
            ("linux-image-6.1.0-9-cloud-amd64", "6.1.27-1"),
            ("linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"),
            ("linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1"),
            ("linux-image-7.2.9+deb13-cloud-amd64", "7.2.9-1~bpo13+1"),
            ("linux-image-7.2.12+deb13-cloud-amd64", "7.2.12-1~bpo13+1"),
        ]
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .into();
        let check = |version: &str, expected| {
            assert_eq!(newest(&kernels, version.parse().unwrap()), expected);
        };
        check("5.10", Some("linux-image-5.10.0-46-cloud-amd64"));
        check("6.1", Some("linux-image-6.1.0-56-cloud-amd64"));
        check("newest", Some("linux-image-7.2.12+deb13-cloud-amd64"));
        check("6.6", None);
    }

    #[test]
    fn mirrors_are_those_of_the_system() {
        let answer = "Debian\thttp://one/debian/\nDebian\thttp://one/debian/\nDebian-Security\thttp://two/\n";
        let sources = sources(&mirrors_in(answer)).unwrap();
        assert_eq!(sources.lines().count(), SUITES.len());
        assert!(sources.contains("http://two/ bullseye-security main"), "{sources}");
        assert!(sources.contains("http://one/debian/ trixie-backports main"), "{sources}");
        assert!(super::sources(&mirrors_in("Ubuntu\thttp://three/\n")).is_err());
    }
}
