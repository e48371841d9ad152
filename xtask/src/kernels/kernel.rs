use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Version, guest_tools::busybox, suites::Suites};
use crate::{apt::STAMP, paths::Paths, progress::Step};

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    tree: PathBuf,
    modules: PathBuf,
    release: String,
}

impl Kernel {
    /// The unpacked kernel of a version, if it is complete.
    pub(super) fn find(paths: &Paths, version: Version) -> Option<Self> {
        let tree = tree(paths, version);
        let modules = modules_in(&tree)?;
        let release = modules.file_name()?.to_str()?.to_owned();
        let kernel = Self { tree, modules, release };
        // `modules.dep` is made last.
        (kernel.image().is_file() && kernel.dependencies().is_file()).then_some(kernel)
    }

    /// Unpacks the newest kernel of a version unless it is present.
    pub(super) fn bring(paths: &Paths, version: Version, suites: &Suites) -> Result<()> {
        let step = Step::begin(&format!("fetching Linux {version}"));
        let tree = tree(paths, version);
        let packages = suites.packages(version)?;
        let stamp = fs::read_to_string(tree.join(STAMP)).unwrap_or_default();
        let is_stamped =
            |package: &String| stamp.lines().any(|line| line.split(' ').next() == Some(package));
        if Self::find(paths, version).is_none() || !packages.iter().all(is_stamped) {
            suites.unpack(&step, &packages, &tree)?;
            list_dependencies(&step, paths, &tree)?;
        }
        let kernel = Self::find(paths, version)
            .with_context(|| format!("{} hold no kernel with modules", packages.join(", ")))?;
        step.detail(&kernel.release);
        step.end();
        Ok(())
    }

    /// The release, as `uname -r` prints it.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// The bootable image.
    pub(super) fn image(&self) -> PathBuf {
        let beside_modules = self.modules.join("vmlinuz");
        if beside_modules.exists() {
            beside_modules
        } else {
            self.tree.join(format!("boot/vmlinuz-{}", self.release))
        }
    }

    /// The folder of its modules.
    pub(super) fn modules(&self) -> &Path {
        &self.modules
    }

    /// The list of dependencies between modules.
    pub(super) fn dependencies(&self) -> PathBuf {
        self.modules.join("modules.dep")
    }

    /// Path of the guest's packed file system.
    pub(super) fn initramfs(&self) -> PathBuf {
        self.tree.join("initramfs.cpio")
    }

    /// Path of the temporary copy of a program without debug information.
    pub(super) fn stripped(&self) -> PathBuf {
        self.tree.join("stripped")
    }

    /// File of the kernel's own messages.
    pub(super) fn console(&self) -> PathBuf {
        self.tree.join("console.log")
    }
}

fn tree(paths: &Paths, version: Version) -> PathBuf {
    paths.kernels().join(version.to_string())
}

/// Newer packages have `lib` below `usr`.
fn modules_in(tree: &Path) -> Option<PathBuf> {
    let folders = ["lib/modules", "usr/lib/modules"].map(|folder| tree.join(folder));
    folders.iter().find_map(|folder| Some(fs::read_dir(folder).ok()?.next()?.ok()?.path()))
}

/// Runs `depmod`, which Debian's packages leave to the system that they are installed on.
fn list_dependencies(step: &Step, paths: &Paths, tree: &Path) -> Result<()> {
    let modules = modules_in(tree).with_context(|| format!("{} has no modules", tree.display()))?;
    let (Some(base), Some(release)) = (modules.ancestors().nth(3), modules.file_name()) else {
        return Ok(());
    };
    let mut depmod = Command::new(busybox(paths));
    step.run(depmod.args(["depmod", "-b"]).arg(base).arg(release))
}
