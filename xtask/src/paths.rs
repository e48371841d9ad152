//! Paths of the workspace. Everything that xtask writes is below the target directory.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The workspace and its target directory.
#[derive(Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    cargo: OsString,
}

impl Paths {
    /// Asks `cargo metadata`, which respects `CARGO_TARGET_DIR`, the user's settings and the
    /// workspace.
    pub(crate) fn find() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut metadata = Command::new(&cargo);
        metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
        if let Some(package) = env::var_os("CARGO_MANIFEST_DIR") {
            metadata.arg("--manifest-path").arg(Path::new(&package).join("Cargo.toml"));
        }
        let answer: Value = serde_json::from_str(&process::output(&mut metadata)?)
            .context("`cargo metadata` gave no JSON")?;
        let directory = |key: &str| {
            answer[key]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("`cargo metadata` names no {key}"))
        };
        Ok(Self {
            root: directory("workspace_root")?,
            target: directory("target_directory")?,
            cargo,
        })
    }

    /// The user's cargo, which builds everything except the eBPF programs.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        self.place(&mut command);
        command
    }

    /// Sets the working directory and the target directory that all cargo children share.
    pub(crate) fn place(&self, command: &mut Command) {
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // `cargo run` describes the package `xtask` in these variables. Build scripts that watch
        // them would run again whenever cargo is called once directly and once by `cargo xtask`.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
    }

    pub(crate) fn cargo_program(&self) -> &OsString {
        &self.cargo
    }

    /// Folder of the tools that `setup` installs.
    pub(crate) fn toolchain(&self) -> PathBuf {
        self.target.join("toolchain")
    }

    /// The privately unpacked BPF compiler and LLVM.
    pub(crate) fn sysroot(&self) -> PathBuf {
        self.toolchain().join("sysroot")
    }

    /// The root that bpf-linker is installed to.
    pub(crate) fn linker(&self) -> PathBuf {
        self.toolchain().join("linker")
    }

    /// The privately unpacked tools of the tests.
    pub(crate) fn tools(&self) -> PathBuf {
        self.toolchain().join("tools")
    }

    /// Folder of the kernels that tests boot, and of QEMU.
    pub(crate) fn kernels(&self) -> PathBuf {
        self.target.join("kernels")
    }

    /// The target directory of the eBPF programs, which have their own compiler.
    pub(crate) fn ebpf_build(&self) -> PathBuf {
        self.target.join("ebpf-build")
    }

    pub(crate) fn daemon(&self) -> PathBuf {
        self.target.join("release/observer")
    }
}

/// The library folders of a tree of unpacked Debian packages.
pub(crate) fn libraries(tree: &Path) -> [PathBuf; 2] {
    // Debian's triplets use Rust's architecture names for x86_64 and aarch64, the two architectures
    // of ECS.
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    [tree.join("usr/lib").join(&triplet), tree.join("lib").join(&triplet)]
}

/// The folders `first` and then those in `variable`, as the value of a variable like `PATH`.
pub(crate) fn prepend(first: &[PathBuf], variable: &str) -> Result<OsString> {
    let inherited = env::var_os(variable).unwrap_or_default();
    let inherited = env::split_paths(&inherited).filter(|path| !path.as_os_str().is_empty());
    join(first.iter().cloned().chain(inherited))
}

pub(crate) fn join(folders: impl IntoIterator<Item = PathBuf>) -> Result<OsString> {
    env::join_paths(folders).context("a folder of the workspace or of PATH has a `:` in its name")
}
