//! QEMU, which boots the guests.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::{
    guest_tools::{busybox, tree},
    kernel::Kernel,
};
use crate::{
    apt, host,
    paths::{Paths, libraries, prepend},
    progress::Step,
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Debian packages of a guest's own programs: a shell that needs no libraries, and a firewall.
const GUEST: [&str; 2] = ["busybox-static", "nftables"];

/// The accelerator that runs a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// QEMU's own emulation: works everywhere, and is tens of times slower.
    Emulation,
    /// The processor's virtualisation.
    Kvm,
}

impl Accelerator {
    const fn argument(self) -> &'static str {
        match self {
            // With one thread per processor, a guest can execute a breakpoint that the kernel sets
            // while it patches its own code after another processor removed it, and the kernel ends
            // in `Oops: int3`.
            Self::Emulation => "tcg,thread=single",
            Self::Kvm => "kvm",
        }
    }

    /// Factor by which tests extend their timeouts.
    const fn slowness(self) -> u32 {
        match self {
            Self::Emulation => 5,
            Self::Kvm => 1,
        }
    }
}

/// The system's QEMU, or one unpacked below the target directory.
#[derive(Debug)]
pub(super) struct Emulator {
    program: PathBuf,
    /// Root of its libraries and firmware, if it is unpacked.
    tree: Option<PathBuf>,
}

impl Emulator {
    pub(super) fn find(paths: &Paths) -> Option<Self> {
        let tree = tree(paths);
        if !busybox(paths).is_file() {
            return None;
        }
        if let Some(program) = host::find_program(PROGRAM) {
            return Some(Self { program, tree: None });
        }
        Some(Self { program: host::find_program_in(&tree, PROGRAM)?, tree: Some(tree) })
    }

    pub(super) fn install(paths: &Paths) -> Result<()> {
        let step = Step::begin("fetching QEMU, which boots the kernels of the tests");
        let mut wanted = GUEST.to_vec();
        if host::find_program(PROGRAM).is_none() {
            wanted.push(PACKAGE);
        }
        if !apt::learn(&step, &wanted)? {
            bail!("apt does not know all of {}: look at its sources", wanted.join(", "));
        }
        // Packages that are installed on the system are needed in the tree too.
        let mut packages = apt::missing(&wanted)?;
        packages.extend(wanted.into_iter().map(str::to_owned));
        packages.sort();
        packages.dedup();
        apt::unpack(&step, &packages, &tree(paths))?;
        step.end();
        Ok(())
    }

    /// A command that boots a kernel. The guest's second serial line becomes the command's standard
    /// output.
    pub(super) fn command(
        &self,
        kernel: &Kernel,
        initramfs: &Path,
        accelerator: Accelerator,
    ) -> Result<Command> {
        let mut qemu = Command::new(&self.program);
        if let Some(tree) = &self.tree {
            qemu.env("LD_LIBRARY_PATH", prepend(&libraries(tree), "LD_LIBRARY_PATH")?);
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                qemu.arg("-L").arg(tree.join(firmware));
            }
        }
        qemu.args([
            "-M",
            "q35",
            "-accel",
            accelerator.argument(),
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1024",
        ]);
        qemu.args(["-nodefaults", "-nic", "none", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
        // The console shows warnings and errors; a panic ends QEMU. Unknown parameters become
        // variables of `init`.
        let slowness = accelerator.slowness();
        let line = format!("console=ttyS0 loglevel=5 panic=-1 OBSERVER_TESTS_SLOWNESS={slowness}");
        qemu.arg("-append").arg(line);
        let mut console = OsString::from("file:");
        console.push(kernel.console());
        qemu.arg("-serial").arg(console);
        qemu.args(["-chardev", "stdio,id=tests,signal=off", "-serial", "chardev:tests"]);
        Ok(qemu)
    }
}
