//! `doctor`: lists installed and missing parts, with the command that installs each.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{
    host, kernels, linker, object,
    paths::Paths,
    process, readers,
    toolchain::BpfToolchain,
    tools::{self, Use},
};

/// The oldest kernel that the eBPF programs are made for.
const KERNEL: (u32, u32) = (5, 10);

struct Finding {
    part: String,
    /// Version or path of the part; `None` if it is missing.
    found: Option<String>,
    /// True for parts that building and running need. The others serve the tests or a single
    /// feature.
    needed: bool,
    remedy: String,
}

pub(crate) fn run(paths: &Paths) -> Result<()> {
    let mut findings = vec![rustc(), compiler_driver()];
    findings.extend(bpf(paths));
    findings.extend([kernel(), root(), btf()]);
    findings.extend(tools::TOOLS.iter().map(|tool| test_tool(paths, tool)));
    findings.extend([readers(paths), booted(paths)]);
    for Finding { part, found, needed, remedy } in &findings {
        let state = match (found, needed) {
            (Some(_), _) => "ok",
            (None, true) => "MISSING",
            (None, false) => "absent",
        };
        let text = found.as_ref().unwrap_or(remedy);
        println!("{state:<8} {part:<14} {text}");
    }
    match findings.iter().filter(|it| it.needed && it.found.is_none()).count() {
        0 => Ok(()),
        missing => {
            bail!("{missing} needed parts are missing; the lines above tell how to get them")
        }
    }
}

fn rustc() -> Finding {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let version = process::output(Command::new("rustc").arg("--version")).ok();
    let found = version.filter(|line| {
        let number = line.trim_start_matches("rustc ");
        host::version_in(number) >= host::version_in(wanted)
    });
    Finding {
        part: "rustc".into(),
        found: found.map(|line| line.trim().to_owned()),
        needed: true,
        remedy: format!("{wanted} or newer is needed: `rustup update stable`"),
    }
}

fn compiler_driver() -> Finding {
    Finding {
        part: "cc".into(),
        found: host::find_program("cc").map(shown),
        needed: true,
        remedy: "Rust links with it: `apt-get install gcc libc6-dev`".into(),
    }
}

fn bpf(paths: &Paths) -> [Finding; 2] {
    let toolchain = BpfToolchain::found(paths);
    // The objects in the repository need neither until their sources change.
    let needed = !object::stale(paths).is_ok_and(|reason| reason.is_none());
    let remedy = "only for changes to the eBPF programs: `cargo xtask setup --only bpf`";
    [
        Finding {
            part: "BPF compiler".into(),
            found: toolchain.map(|it| match it {
                BpfToolchain::Debian { llvm } => format!("Debian's rustc, LLVM {llvm}"),
                BpfToolchain::Nightly { llvm } => format!("rustup's nightly, LLVM {llvm}"),
            }),
            needed,
            remedy: remedy.into(),
        },
        Finding {
            part: "bpf-linker".into(),
            found: toolchain.and_then(|it| linker::found(paths, it)).map(shown),
            needed,
            remedy: remedy.into(),
        },
    ]
}

fn kernel() -> Finding {
    let (major, minor) = KERNEL;
    Finding {
        part: "kernel".into(),
        found: host::kernel()
            .filter(|found| *found >= KERNEL)
            .map(|(major, minor)| format!("{major}.{minor}")),
        needed: true,
        remedy: format!("Linux {major}.{minor} or newer is needed to run; building works"),
    }
}

fn root() -> Finding {
    let sudo = || host::find_program("sudo").map(shown);
    Finding {
        part: "root".into(),
        found: if host::is_root() { Some("is root".into()) } else { sudo() },
        needed: true,
        remedy: "running needs root: install sudo, or run xtask as root".into(),
    }
}

fn btf() -> Finding {
    let file = Path::new("/sys/kernel/btf/vmlinux");
    Finding {
        part: "kernel BTF".into(),
        found: file.exists().then(|| shown(file)),
        needed: false,
        remedy: "reasons of drops need a kernel with CONFIG_DEBUG_INFO_BTF".into(),
    }
}

fn test_tool(paths: &Paths, tool: &tools::Tool) -> Finding {
    Finding {
        part: tool.program.into(),
        found: tools::find(paths, tool).map(shown),
        needed: tool.uses.contains(&Use::Demo),
        remedy: format!("{}: `cargo xtask setup`, or install {}", tool.why, tool.package),
    }
}

fn readers(paths: &Paths) -> Finding {
    Finding {
        part: "readers".into(),
        found: readers::found(paths).map(shown),
        needed: false,
        remedy: "DuckDB, pyarrow, flowlogs-reader and moto for Python, for the tests: `cargo xtask setup`"
            .into(),
    }
}

fn booted(paths: &Paths) -> Finding {
    Finding {
        part: "other kernels".into(),
        found: kernels::found(paths),
        needed: false,
        remedy: "the tests boot them: `cargo xtask setup`, or `cargo xtask setup --only kernels` for all"
            .into(),
    }
}

fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}
