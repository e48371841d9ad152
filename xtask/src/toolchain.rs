//! The compiler of the eBPF programs: Debian's rustc, or rustup's nightly.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt, host,
    paths::{Paths, join, libraries, prepend},
    process,
    progress::Step,
};

/// Packages that Debian's compiler consists of: rustc, and `core` for the BPF target.
const DEBIAN: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// Flags for both compilers. Kernel 5.10, the oldest supported, accepts `v3` and misaligned access
/// to packets.
const FLAGS: [&str; 6] = [
    "-Clinker=bpf-linker",
    "-Clink-arg=--btf",
    "-Cdebuginfo=2",
    "-Ctarget-cpu=v3",
    // With block placement, LLVM lets the last block of a loop fall through into its first, which
    // Linux before 6.7 refuses (`control_flow.rs`). The packet path costs the same without it.
    "-Clink-arg=--llvm-args=-disable-block-placement",
    // Passed to the linker, which generates the code: rustc would warn at each build that it does
    // not know this feature.
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];

/// The flags in one line. Path remappings are left out: they depend on the machine and do not
/// change the object.
pub(crate) fn flags() -> String {
    FLAGS.join(" ")
}

/// An installed compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BpfToolchain {
    /// Debian's rustc, which has a prebuilt `core` for the target, unpacked privately next to its
    /// LLVM.
    Debian { llvm: u32 },
    /// rustup's nightly, which builds `core` itself.
    Nightly { llvm: u32 },
}

impl BpfToolchain {
    /// The compiler that an earlier set-up installed.
    pub(crate) fn found(paths: &Paths) -> Option<Self> {
        let sysroot = paths.sysroot();
        if let Ok(stamp) = fs::read_to_string(sysroot.join(apt::STAMP))
            && let Some(llvm) = llvm_in_stamp(&stamp)
            && sysroot.join("usr/bin/rustc").exists()
        {
            return Some(Self::Debian { llvm });
        }
        llvm_in_rustc(&fs::read_to_string(nightly_stamp(paths)).ok()?)
            .map(|llvm| Self::Nightly { llvm })
    }

    /// Chooses a compiler and installs it.
    pub(crate) fn install(paths: &Paths) -> Result<Self> {
        let step = Step::begin("fetching the BPF compiler (1.1 GB, below target/)");
        let toolchain = if host::distribution().as_deref() == Some("debian")
            && apt::learn(&step, &DEBIAN)?
        {
            install_debian(&step, &paths.sysroot())?
        } else if host::find_program("rustup").is_some() {
            install_nightly(&step, paths)?
        } else {
            bail!(
                "no compiler for eBPF: install rustup, or on Debian add the security suite to apt's sources"
            );
        };
        step.end();
        Ok(toolchain)
    }

    /// Cargo, configured to build the eBPF programs; the caller adds `build` and its arguments.
    pub(crate) fn cargo(self, paths: &Paths) -> Result<Command> {
        let mut command = match self {
            Self::Debian { .. } => {
                let mut command = Command::new(paths.cargo_program());
                command
                    .env("RUSTC", paths.sysroot().join("usr/bin/rustc"))
                    // aya-ebpf uses one unstable feature.
                    .env("RUSTC_BOOTSTRAP", "1");
                command
            }
            Self::Nightly { .. } => {
                let mut command = Command::new("rustup");
                command
                    .args(["run", "nightly", "cargo", "-Z", "build-std=core"])
                    .env_remove("RUSTC");
                command
            }
        };
        paths.place(&mut command);
        self.with_llvm(paths, &mut command)?;
        // A wrapper such as sccache is configured for the host's compiler.
        for wrapper in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"] {
            command.env_remove(wrapper);
        }
        let flags: Vec<String> =
            FLAGS.iter().map(|&flag| flag.to_owned()).chain(remaps(paths)?).collect();
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        Ok(command)
    }

    /// `llvm-strip` of the compiler's LLVM.
    pub(crate) fn strip(self, paths: &Paths) -> Result<Command> {
        let mut command = match self {
            Self::Debian { llvm } => Command::new(llvm_prefix(paths, llvm).join("bin/llvm-strip")),
            Self::Nightly { .. } => {
                let libdir = process::output(nightly_rustc().args(["--print", "target-libdir"]))?;
                Command::new(Path::new(libdir.trim()).with_file_name("bin").join("llvm-strip"))
            }
        };
        self.with_llvm(paths, &mut command)?;
        Ok(command)
    }

    /// The compiler's version, in one line.
    pub(crate) fn version(self, paths: &Paths) -> Result<String> {
        let mut rustc = match self {
            Self::Debian { .. } => Command::new(paths.sysroot().join("usr/bin/rustc")),
            Self::Nightly { .. } => nightly_rustc(),
        };
        self.with_llvm(paths, &mut rustc)?;
        version_in(&process::output(rustc.arg("-vV"))?)
            .context("`rustc -vV` names no version of LLVM")
    }

    /// Puts this LLVM's programs and libraries, and this bpf-linker, first in a command's search
    /// paths.
    pub(crate) fn with_llvm(self, paths: &Paths, command: &mut Command) -> Result<()> {
        let mut programs = vec![paths.linker().join("bin")];
        if let Self::Debian { llvm } = self {
            let prefix = llvm_prefix(paths, llvm);
            programs.push(prefix.join("bin"));
            command.env("LLVM_PREFIX", prefix);
            command.env("LD_LIBRARY_PATH", join(libraries(&paths.sysroot()))?);
        }
        command.env("PATH", prepend(&programs, "PATH")?);
        Ok(())
    }

    /// The major version that bpf-linker must match.
    pub(crate) fn llvm(self) -> u32 {
        match self {
            Self::Debian { llvm } | Self::Nightly { llvm } => llvm,
        }
    }
}

/// Unpacks the compiler privately: its packages conflict with installed compilers, and unpacking
/// needs no root.
fn install_debian(step: &Step, sysroot: &Path) -> Result<BpfToolchain> {
    let std = dependency("libstd-rust-web-dev", "libstd-rust-web-")?;
    let libllvm = dependency(&std, "libllvm")?;
    let major = number_after(&libllvm, "libllvm")
        .with_context(|| format!("{libllvm} has no version in its name"))?;
    let [llvm, dev, tools, polly] = [
        format!("llvm-{major}"),
        format!("llvm-{major}-dev"),
        format!("llvm-{major}-linker-tools"),
        format!("libpolly-{major}-dev"),
    ];
    let mut packages: Vec<String> = DEBIAN.map(str::to_owned).to_vec();
    let libraries = apt::missing_libraries(&[&libllvm, &llvm])?;
    packages.extend(["libstd-rust-web-dev".to_owned(), std, libllvm, llvm, dev, tools, polly]);
    packages.extend(libraries);
    packages.sort();
    packages.dedup();
    apt::unpack(step, &packages, sysroot)?;
    Ok(BpfToolchain::Debian { llvm: major })
}

/// The dependency of `package` whose name is `prefix` and a version.
fn dependency(package: &str, prefix: &str) -> Result<String> {
    apt::depends(package)?
        .into_iter()
        .find(|name| number_after(name, prefix).is_some())
        .with_context(|| {
            format!(
                "{package} depends on no {prefix}VERSION: its packages have changed their names"
            )
        })
}

/// Installs the compiler as aya's documentation recommends, into rustup's usual folder.
fn install_nightly(step: &Step, paths: &Paths) -> Result<BpfToolchain> {
    step.detail("rustup's nightly with rust-src");
    step.run(
        Command::new("rustup")
            .args(["toolchain", "install", "nightly", "--profile", "minimal"])
            .args(["--component", "rust-src", "--component", "llvm-tools"]),
    )?;
    let version = process::output(nightly_rustc().arg("-vV"))?;
    let llvm =
        llvm_in_rustc(&version).context("`rustc -vV` of the nightly names no LLVM version")?;
    fs::write(nightly_stamp(paths), version)?;
    Ok(BpfToolchain::Nightly { llvm })
}

fn nightly_rustc() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc"]);
    command
}

fn nightly_stamp(paths: &Paths) -> PathBuf {
    paths.toolchain().join("nightly")
}

fn llvm_prefix(paths: &Paths, llvm: u32) -> PathBuf {
    paths.sysroot().join(format!("usr/lib/llvm-{llvm}"))
}

/// Flags that replace this machine's folders in the object, so that it does not depend on them.
fn remaps(paths: &Paths) -> Result<Vec<String>> {
    let mut remaps = vec![remap(&paths.root, "/observer")];
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    // The folder below is named after the registry, which may be a mirror.
    let mut registries: Vec<PathBuf> = fs::read_dir(cargo_home.join("registry/src"))
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    registries.sort();
    remaps.extend(registries.iter().map(|registry| remap(registry, "/registry")));
    Ok(remaps)
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn llvm_in_stamp(stamp: &str) -> Option<u32> {
    stamp.lines().find_map(|line| number_after(line.split(' ').next()?, "libllvm"))
}

fn llvm_in_rustc(version: &str) -> Option<u32> {
    version.lines().find_map(|line| number_after(line, "LLVM version: "))
}

/// The first line of `rustc -vV`, and its LLVM.
fn version_in(version: &str) -> Option<String> {
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some(format!("{}, LLVM {llvm}", version.lines().next()?))
}

/// The number that begins right behind `prefix`.
fn number_after(text: &str, prefix: &str) -> Option<u32> {
    text.strip_prefix(prefix)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_unpacked_packages() {
        assert_eq!(
            llvm_in_stamp("libedit2 3.1\nlibllvm22 1:22.1.8-1~deb12u1\nllvm-22 1:22.1.8-1\n"),
            Some(22)
        );
        assert_eq!(llvm_in_stamp("rustc-web 1.96.0\n"), None);
        assert_eq!(llvm_in_stamp(""), None);
    }

    #[test]
    fn llvm_is_read_from_the_compiler() {
        assert_eq!(
            llvm_in_rustc("rustc 1.97.0-nightly\nhost: x86_64\nLLVM version: 22.1.4\n"),
            Some(22)
        );
        assert_eq!(llvm_in_rustc("rustc 1.97.0-nightly\n"), None);
        assert_eq!(
            version_in("rustc 1.97.0-nightly (a 2026-01-02)\nhost: x86_64\nLLVM version: 22.1.4\n")
                .as_deref(),
            Some("rustc 1.97.0-nightly (a 2026-01-02), LLVM 22.1.4")
        );
    }

    #[test]
    fn versioned_names_are_told_from_their_neighbours() {
        assert!(number_after("libstd-rust-web-1.96", "libstd-rust-web-").is_some());
        assert!(number_after("libstd-rust-web-dev", "libstd-rust-web-").is_none());
        assert_eq!(number_after("libllvm19t64", "libllvm"), Some(19));
        assert!(number_after("libllvm-dev", "libllvm").is_none());
    }
}
