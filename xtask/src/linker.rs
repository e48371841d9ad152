//! bpf-linker, built against the LLVM of the BPF compiler, because it reads that compiler's
//! bitcode.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{host, paths::Paths, progress::Step, toolchain::BpfToolchain};

pub(crate) const VERSION: &str = "0.13.0";

/// The installed linker that builds use.
pub(crate) fn found(paths: &Paths, toolchain: BpfToolchain) -> Option<PathBuf> {
    let own = paths.linker().join("bin/bpf-linker");
    if fs::read_to_string(stamp(paths)).is_ok_and(|stamp| stamp == contents(toolchain))
        && own.exists()
    {
        return Some(own);
    }
    match toolchain {
        BpfToolchain::Debian { .. } => None,
        // With rustup's compiler, bpf-linker's authors recommend their prebuilt binary, which is on
        // PATH.
        BpfToolchain::Nightly { .. } => host::find_program("bpf-linker"),
    }
}

pub(crate) fn install(paths: &Paths, toolchain: BpfToolchain) -> Result<()> {
    let llvm = toolchain.llvm();
    let step =
        Step::begin(&format!("compiling bpf-linker {VERSION}, which links the eBPF programs"));
    let build = paths.toolchain().join("linker-build");
    let mut cargo = paths.cargo();
    cargo
        .args(["install", "bpf-linker", "--version", VERSION, "--locked", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(paths.linker())
        .arg("--target-dir")
        .arg(&build);
    toolchain.with_llvm(paths, &mut cargo)?;
    step.cargo(&mut cargo).with_context(|| match toolchain {
        BpfToolchain::Debian { .. } => format!("bpf-linker did not build against LLVM {llvm}"),
        BpfToolchain::Nightly { .. } => format!(
            "bpf-linker needs the development files of LLVM {llvm}: install them, or bring its binary to PATH with \
             `cargo binstall bpf-linker@{VERSION}`"
        ),
    })?;
    if build.exists() {
        fs::remove_dir_all(build)?;
    }
    fs::write(stamp(paths), contents(toolchain))?;
    step.end();
    Ok(())
}

fn stamp(paths: &Paths) -> PathBuf {
    paths.linker().join(".built")
}

fn contents(toolchain: BpfToolchain) -> String {
    format!("bpf-linker {VERSION} llvm-{}\n", toolchain.llvm())
}
