//! The eBPF object: compiled, stripped, looked over, and put where the daemon's build finds it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    control_flow, elf,
    paths::Paths,
    process::{self, Step},
    toolchain::BpfToolchain,
};

const PACKAGE: &str = "observer-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// What becomes of compiler warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warnings {
    Allowed,
    Denied,
}

/// What there is to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// The programs that the daemon embeds.
    Product,
    /// Those that the benchmarks compare them with.
    Bench,
}

impl Object {
    const fn target(self) -> &'static str {
        match self {
            Self::Product => "observer-programs",
            Self::Bench => "observer-bench-programs",
        }
    }

    /// Where the finished one lies.
    pub(crate) fn path(self, paths: &Paths) -> PathBuf {
        match self {
            Self::Product => paths.object(),
            Self::Bench => paths.object().with_file_name("bench.bpf.o"),
        }
    }
}

/// Builds an object and returns the unstripped one.
pub(crate) fn build(
    paths: &Paths,
    toolchain: BpfToolchain,
    object: Object,
    warnings: Warnings,
) -> Result<PathBuf> {
    let step = Step::begin(match object {
        Object::Product => "building the eBPF programs",
        Object::Bench => "building the eBPF programs of the benchmarks",
    });
    let folder = paths.target.join("ebpf-build");
    let mut cargo = toolchain.cargo(paths)?;
    cargo
        .args(["build", "--profile", "bpf", "-p", PACKAGE, "--bin", object.target(), "--target", TARGET])
        .arg("--target-dir")
        .arg(&folder);
    match warnings {
        Warnings::Allowed => process::check(&mut cargo)?,
        Warnings::Denied => {
            // Cargo repeats the warnings of what it has built before, so this shares the build's results where
            // `-D warnings` would be another build.
            cargo.arg("--message-format=json").stderr(Stdio::inherit());
            let child =
                cargo.stdout(Stdio::piped()).output().map_err(|it| process::cannot_start(&cargo, &it))?;
            let count = show_diagnostics(&String::from_utf8_lossy(&child.stdout));
            process::succeeded(&cargo, child.status)?;
            if count > 0 {
                bail!("{count} warnings in the eBPF programs; they are denied");
            }
        }
    }
    let unstripped = folder.join(TARGET).join("bpf").join(object.target());
    finish(paths, toolchain, &unstripped, &object.path(paths))?;
    step.end();
    Ok(unstripped)
}

/// Strips and checks the object, and replaces the finished one only if it differs: the daemon is built from it.
fn finish(paths: &Paths, toolchain: BpfToolchain, unstripped: &Path, object: &Path) -> Result<()> {
    let folder = object.parent().context("the object has no folder")?;
    fs::create_dir_all(folder)?;
    let stripped = object.with_extension("new");
    // `-g` takes the debug information and leaves BTF, a fifth of the size.
    process::check(toolchain.strip(paths)?.arg("-g").arg("-o").arg(&stripped).arg(unstripped))?;
    let bytes = fs::read(&stripped)?;
    refuse_memory_calls(&bytes)?;
    refuse_silent_loops(&bytes)?;
    refuse_mixed_calls(&bytes)?;
    if fs::read(object).is_ok_and(|old| old == bytes) {
        fs::remove_file(stripped)?;
    } else {
        fs::rename(stripped, object)?;
    }
    Ok(())
}

/// The packet path copies word by word. No function of the object needs such a call, the log lines included.
fn refuse_memory_calls(object: &[u8]) -> Result<()> {
    let calls = elf::memory_calls(object)?;
    let Some(first) = calls.first() else { return Ok(()) };
    bail!(
        "a struct copy crept into the packet path: {} calls {} ({} such calls); copy word by word, as `cache.rs` does",
        first.caller,
        first.routine,
        calls.len()
    )
}

/// The switch in `toolchain.rs` keeps the compiler from making such loops.
fn refuse_silent_loops(object: &[u8]) -> Result<()> {
    let loops = control_flow::silent_loops(object)?;
    let Some(first) = loops.first() else { return Ok(()) };
    bail!(
        "Linux 5.10 and 6.1 would refuse a loop of {}: instruction {} runs on into its head, {} ({} such loops); \
         write the loop in another way",
        first.function,
        first.head - 1,
        first.head,
        loops.len()
    )
}

/// Nothing that this machine runs would tell: x86 takes them.
fn refuse_mixed_calls(object: &[u8]) -> Result<()> {
    let programs = elf::mixed_calls(object)?;
    let Some(first) = programs.first() else { return Ok(()) };
    bail!(
        "before Linux 6.0 arm64 would refuse {first}, which goes on into another program and calls functions of its own; \
         have them inlined, and leave log lines to the other program"
    )
}

/// Prints the compiler's messages and returns how many warnings there were.
fn show_diagnostics(messages: &str) -> usize {
    let shown: Vec<Diagnostic> = messages.lines().filter_map(Diagnostic::in_line).collect();
    for diagnostic in &shown {
        eprint!("{}", diagnostic.text);
    }
    shown.iter().filter(|diagnostic| diagnostic.warns).count()
}

/// A message of the compiler.
#[derive(Debug, PartialEq, Eq)]
struct Diagnostic {
    text: String,
    warns: bool,
}

impl Diagnostic {
    /// The one in a line of cargo's messages, if there is one.
    fn in_line(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["reason"] != "compiler-message" {
            return None;
        }
        let message = &line["message"];
        // The closing line, "2 warnings emitted", has neither a place nor a name.
        let closing = message["spans"] == json!([]) && message["code"].is_null();
        let warns = message["level"] == "warning" && !closing;
        Some(Self { text: message["rendered"].as_str()?.to_owned(), warns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_count_and_their_sum_does_not() {
        let check = |line: &str, expected: Option<(&str, bool)>| {
            let expected = expected.map(|(text, warns)| Diagnostic { text: text.to_owned(), warns });
            assert_eq!(Diagnostic::in_line(line), expected);
        };
        check(
            r#"{"reason":"compiler-message","message":{"level":"warning","code":{"code":"dead_code"},"spans":[{}],"rendered":"x"}}"#,
            Some(("x", true)),
        );
        check(
            r#"{"reason":"compiler-message","message":{"level":"warning","code":null,"spans":[],"rendered":"2 warnings"}}"#,
            Some(("2 warnings", false)),
        );
        check(
            r#"{"reason":"compiler-message","message":{"level":"error","code":null,"spans":[],"rendered":"linking"}}"#,
            Some(("linking", false)),
        );
        check(r#"{"reason":"compiler-artifact","executable":null}"#, None);
        check("Compiling", None);
    }
}
