//! QEMU, and with it the programs of Debian that only a guest needs.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::kernel::Kernel;
use crate::{
    apt, host,
    paths::{Paths, libraries, prepend},
    progress::Step,
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// What a guest runs beside the tests: a shell that needs no libraries, and a firewall.
const GUEST: [&str; 2] = ["busybox-static", "nftables"];

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// QEMU itself: everywhere, and some tens of times slower than the processor.
    Emulation,
    /// The processor.
    Kvm,
}

impl Accelerator {
    const fn argument(self) -> &'static str {
        match self {
            // With a thread for each processor, one may still run the breakpoint by which the kernel rewrites its own
            // code when the other has removed it again, and the kernel ends in `Oops: int3`.
            Self::Emulation => "tcg,thread=single",
            Self::Kvm => "kvm",
        }
    }

    /// How much longer than usual a test waits.
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
    /// Where its libraries and firmware lie, if that is not where it looks.
    tree: Option<PathBuf>,
}

impl Emulator {
    pub(super) fn find(paths: &Paths) -> Option<Self> {
        let tree = tree(paths);
        if !Self::busybox(paths).is_file() {
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
        // What is installed already is wanted in the tree all the same.
        let mut packages = apt::missing(&wanted)?;
        packages.extend(wanted.into_iter().map(str::to_owned));
        packages.sort();
        packages.dedup();
        apt::unpack(&step, &packages, &tree(paths))?;
        step.end();
        Ok(())
    }

    /// A shell and a hundred programs in one file.
    pub(super) fn busybox(paths: &Paths) -> PathBuf {
        let tree = tree(paths);
        let program = tree.join("usr/bin/busybox");
        if program.is_file() { program } else { tree.join("bin/busybox") }
    }

    /// Boots a kernel into a file system; what the guest writes to its second serial line comes on stdout.
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
        qemu.args(["-M", "q35", "-accel", accelerator.argument(), "-cpu", "max", "-smp", "2", "-m", "1024"]);
        qemu.args(["-nodefaults", "-nic", "none", "-display", "none", "-no-reboot"]);
        qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(initramfs);
        // Warnings and worse on the console; a panic ends QEMU. What the kernel does not know is a variable of `init`.
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

/// Where the private packages lie.
pub(super) fn tree(paths: &Paths) -> PathBuf {
    paths.kernels().join("tools")
}
