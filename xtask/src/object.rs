//! The eBPF objects: kept in the repository, rebuilt when their sources change, and verified by
//! `lint`.
//!
//! ```text
//! observer-ebpf/src ─▶ compiler, bpf-linker ─▶ strip ─▶ checks ─▶ observer-ebpf/objects ─▶ observer/build.rs
//! ```
//!
//! Only changes to the sources need the BPF compiler and bpf-linker.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    bpf, control_flow, elf, linker,
    paths::Paths,
    process,
    progress::Step,
    toolchain::{self, BpfToolchain},
};

#[path = "../../observer-ebpf/objects/fresh.rs"]
mod fresh;

use fresh::State;

const PACKAGE: &str = "observer-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// The compiler's warnings in a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warnings {
    Allowed,
    Denied,
}

/// An eBPF object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// The programs that the daemon embeds.
    Product,
    /// Variants of the programs that only the benchmarks load.
    Bench,
}

impl Object {
    const ALL: [Self; 2] = [Self::Product, Self::Bench];

    const fn target(self) -> &'static str {
        match self {
            Self::Product => "observer-programs",
            Self::Bench => "observer-bench-programs",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Product => "observer.bpf.o",
            Self::Bench => "bench.bpf.o",
        }
    }

    /// Its path in the repository.
    pub(crate) fn path(self, paths: &Paths) -> PathBuf {
        folder(paths).join(self.file())
    }
}

fn folder(paths: &Paths) -> PathBuf {
    paths.root.join(fresh::FOLDER)
}

/// The reason why the objects in the repository cannot be used; `None` if they can.
pub(crate) fn stale(paths: &Paths) -> Result<Option<String>> {
    let state = fresh::state(&paths.root, &Object::ALL.map(Object::file))
        .with_context(|| format!("the eBPF objects in {} cannot be judged", fresh::FOLDER))?;
    Ok(match state {
        State::Stale(reason) => Some(reason),
        State::Fresh if value(paths, "flags")? != Some(toolchain::flags()) => {
            Some("the compiler's flags have changed".into())
        }
        State::Fresh => None,
    })
}

/// Rebuilds the objects if the ones in the repository are out of date.
pub(crate) fn ensure(paths: &Paths) -> Result<()> {
    if let Some(reason) = stale(paths)? {
        println!("the eBPF objects in {} are built anew: {reason}", fresh::FOLDER);
        replace(paths)?;
    }
    Ok(())
}

/// The number of steps that [`ensure`] takes.
pub(crate) fn steps(paths: &Paths) -> Result<usize> {
    Ok(if stale(paths)?.is_some() { steps_of_replacing(paths) } else { 0 })
}

/// The number of steps that [`replace`] takes.
pub(crate) fn steps_of_replacing(paths: &Paths) -> usize {
    bpf::steps(paths) + Object::ALL.len()
}

/// Builds the objects and puts them into the repository.
pub(crate) fn replace(paths: &Paths) -> Result<()> {
    let toolchain = bpf::bring(paths)?;
    let mut record = record(paths, toolchain)?;
    for object in Object::ALL {
        let bytes = build(paths, toolchain, object, Warnings::Allowed)?;
        writeln!(record, "{} = {}", object.file(), fresh::hash([&bytes[..]]))?;
        put(&object.path(paths), &bytes)?;
    }
    put(&folder(paths).join(fresh::RECORD), record.as_bytes())
}

/// Rebuilds the objects with warnings denied, and compares them with those in the repository.
pub(crate) fn prove(paths: &Paths) -> Result<()> {
    if let Some(reason) = stale(paths)? {
        bail!(
            "the eBPF objects in {} are out of date: {reason}. Run `cargo xtask build --object` and commit that folder",
            fresh::FOLDER
        );
    }
    let toolchain = bpf::bring(paths)?;
    let mut different = Vec::new();
    for object in Object::ALL {
        let bytes = build(paths, toolchain, object, Warnings::Denied)?;
        if fs::read(object.path(paths)).ok() != Some(bytes) {
            different.push(object.file());
        }
    }
    if different.is_empty() {
        return Ok(());
    }
    let names = different.join(" and ");
    let here = toolchain.version(paths)?;
    match value(paths, "compiler")? {
        Some(there) if there != here => other_compiler(&names, &there, &here),
        _ => bail!(
            "{names} in {} differs from what the sources give. Run `cargo xtask build --object` and commit that folder",
            fresh::FOLDER
        ),
    }
}

/// Compares only in CI, which has the compiler that built the objects. Another compiler gives other
/// bytes.
fn other_compiler(names: &str, there: &str, here: &str) -> Result<()> {
    let text = format!("{names} was built by {there}, and here is {here}");
    if env::var_os("CI").is_some() {
        bail!("{text}. Run `cargo xtask build --object` and commit {}", fresh::FOLDER);
    }
    println!("    {text}: their bytes cannot be compared");
    Ok(())
}

/// Builds an object below the target directory and returns its bytes.
fn build(
    paths: &Paths,
    toolchain: BpfToolchain,
    object: Object,
    warnings: Warnings,
) -> Result<Vec<u8>> {
    let step = Step::begin(match object {
        Object::Product => "compiling the eBPF programs",
        Object::Bench => "compiling the eBPF programs of the benchmarks",
    });
    let mut cargo = toolchain.cargo(paths)?;
    cargo
        .args([
            "build",
            "--profile",
            "bpf",
            "-p",
            PACKAGE,
            "--bin",
            object.target(),
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(paths.ebpf_build());
    match warnings {
        Warnings::Allowed => step.cargo(&mut cargo)?,
        Warnings::Denied => {
            // Cargo repeats the warnings of cached builds, so this reuses the build's results. `-D
            // warnings` would be a second build.
            cargo.arg("--message-format=json").stderr(Stdio::inherit());
            let child = cargo
                .stdout(Stdio::piped())
                .output()
                .map_err(|it| process::cannot_start(&cargo, &it))?;
            let count = show_diagnostics(&String::from_utf8_lossy(&child.stdout));
            process::succeeded(&cargo, child.status)?;
            if count > 0 {
                bail!("{count} warnings in the eBPF programs; they are denied");
            }
        }
    }
    let unstripped = unstripped(paths, object);
    let stripped = unstripped.with_extension("stripped");
    // `-g` removes the debug information and keeps BTF, a fifth of the size.
    step.run(toolchain.strip(paths)?.arg("-g").arg("-o").arg(&stripped).arg(&unstripped))?;
    let bytes = fs::read(&stripped)?;
    refuse_memory_calls(&bytes)?;
    refuse_silent_loops(&bytes)?;
    refuse_mixed_calls(&bytes)?;
    step.end();
    Ok(bytes)
}

/// A built object with its debug information.
pub(crate) fn unstripped(paths: &Paths, object: Object) -> PathBuf {
    paths.ebpf_build().join(TARGET).join("bpf").join(object.target())
}

/// The record of sources, compiler and flags that `fresh.rs` compares.
fn record(paths: &Paths, toolchain: BpfToolchain) -> Result<String> {
    let sources =
        fresh::sources(&paths.root).context("the sources of the eBPF programs cannot be read")?;
    Ok(format!(
        "# Written by `cargo xtask build`, which builds the objects in this folder whenever their sources have changed.\n\
         # `cargo xtask lint` builds them anew and refuses any other bytes.\n\
         compiler = {}\n\
         linker = bpf-linker {}\n\
         flags = {}\n\
         {} = {sources}\n",
        toolchain.version(paths)?,
        linker::VERSION,
        toolchain::flags(),
        fresh::SOURCES,
    ))
}

/// A value of the record in the repository.
fn value(paths: &Paths, key: &str) -> Result<Option<String>> {
    let file = folder(paths).join(fresh::RECORD);
    let record =
        fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(fresh::value(&record, key).map(str::to_owned))
}

/// Writes a file only if its content changes, because the daemon is rebuilt when it is written.
fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let new = file.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("{} cannot be written", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("{} cannot be replaced", file.display()))
}

/// Refuses calls of `memcpy` and the like in any function: the packet path copies word by word.
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

/// Refuses fall-through loops. The `-disable-block-placement` flag in `toolchain.rs` keeps the
/// compiler from making them.
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

/// Refuses programs that mix tail calls and function calls. x86 loads them, so no test on this
/// machine would fail.
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
    /// Parses one line of cargo's JSON messages; `None` for other kinds of messages.
    fn in_line(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["reason"] != "compiler-message" {
            return None;
        }
        let message = &line["message"];
        // The closing line, "2 warnings emitted", has neither spans nor a code.
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
            let expected =
                expected.map(|(text, warns)| Diagnostic { text: text.to_owned(), warns });
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
