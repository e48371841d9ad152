//! `test`: the stages, what they need, and one summary. What needs root runs through sudo, what compiles does not.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    build,
    kernels::{self, Extent, Version},
    paths::Paths,
    process,
    progress::{self, Step},
    setup,
    skips::{self, Skip},
    stages::Stages,
    tools,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum, default_value = "all")]
    stage: Stage,
    /// Of `kernels`: which, such as 5.10, or `newest`
    kernels: Vec<Version>,
    /// Packets to generate for the parser, instead of what each stage takes
    #[arg(long)]
    inputs: Option<u64>,
    /// What generated packets start from; a test that fails says it
    #[arg(long)]
    seed: Option<u64>,
    /// Of `e2e`: only this hook, for every scenario or those of the filter
    #[arg(long, value_enum)]
    hook: Option<Hook>,
    /// Only tests whose names contain one of these
    #[arg(last = true)]
    filter: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// What needs neither root nor a kernel of its own
    Unit,
    /// The parser beside tshark, and beside a second one on many generated packets
    Differential,
    /// Packets through the loaded programs
    Programs,
    /// The daemon in network namespaces
    E2e,
    /// Other kernels, in QEMU: 5.10, 6.1, 6.12 and the newest, unless some are named
    Kernels,
    /// All of these
    All,
}

/// Where the daemon of a scenario counts, if the scenario does not say so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hook {
    Tc,
    XdpNative,
    XdpGeneric,
}

impl Hook {
    const ALL: [Self; 3] = [Self::Tc, Self::XdpNative, Self::XdpGeneric];

    /// As the scenarios' harness knows it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// The scenarios of a run that names none: those of conservation once more by XDP, but for the longest.
    const fn scenarios(self) -> &'static [&'static str] {
        match self {
            Self::Tc => &[],
            Self::XdpNative | Self::XdpGeneric => &[
                "apart::",
                "bulk::packets",
                "flows::",
                "frames::",
                "gso::",
                "pressure::a_full_table",
                "pressure::what_no_longer_fits",
                "windows::",
            ],
        }
    }
}

/// A child whose output is shown and searched for skips.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Cargo's progress goes to stderr, and only where that is a terminal.
    Stdout,
    Both,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    let wants = |stage| args.stage == stage || args.stage == Stage::All;
    if args.stage != Stage::Kernels && !args.kernels.is_empty() {
        bail!("kernels are named for `cargo xtask test kernels` only; a filter comes after `--`");
    }
    if args.hook.is_some() && args.stage != Stage::E2e {
        bail!("--hook is for `cargo xtask test e2e`");
    }
    let tools = args.stage != Stage::Unit;
    let steps = if tools { setup::steps_of_test_tools(paths) } else { 0 };
    progress::plan(steps + build::steps(paths)? + 1);
    if tools {
        setup::test_tools(paths)?;
    }
    build::all(paths)?;
    compile(paths, args)?;

    let mut stages = Stages::default();
    let mut skips = Vec::new();
    if wants(Stage::Unit) {
        stages.run("unit", || unit(paths, args, &mut skips));
    }
    if wants(Stage::Differential) {
        stages.run("differential", || differential(paths, args, &mut skips));
    }
    if wants(Stage::Programs) {
        stages.run("programs", || with_root(paths, "programs", args, (Hook::Tc, &[]), &mut skips));
    }
    if wants(Stage::E2e) {
        end_to_end(paths, args, (&mut stages, &mut skips));
    }
    if wants(Stage::Kernels)
        && let Err(error) = other_kernels(paths, args, (&mut stages, &mut skips))
    {
        stages.run("kernels", || Err(error));
    }
    let finished = stages.finish();
    let lists =
        ["tests/expected-skips.txt", "tests/guest/expected-skips.txt"].map(|list| paths.root.join(list));
    let judged = skips::judge(&skips, &lists);
    match (finished, judged) {
        (Err(failed), Err(skipped)) => Err(anyhow!("{failed:#}; {skipped:#}")),
        (finished, judged) => finished.and(judged),
    }
}

/// The parser's tests, with checks of arithmetic.
const PARSER: [&str; 4] = ["--profile", "checked", "-p", "observer-ebpf"];
/// The tests of the other crates that need neither root nor a kernel of their own.
const CRATES: [&str; 5] = ["--release", "-p", "observer", "-p", "xtask"];
/// The harness has tests of its own.
const HARNESS: [&str; 4] = ["--release", "-p", "observer-tests", "--lib"];

/// Compiles all that the wanted stages run, as one step.
fn compile(paths: &Paths, args: &Args) -> Result<()> {
    let wants = |stage| args.stage == stage || args.stage == Stage::All;
    let step = Step::begin("compiling the tests");
    let build = |targets: &[&str]| {
        let mut cargo = paths.cargo();
        step.cargo(cargo.args(["test", "--no-run"]).args(targets))
    };
    if wants(Stage::Unit) || wants(Stage::Differential) {
        build(&PARSER)?;
    }
    if wants(Stage::Unit) {
        build(&CRATES)?;
        build(&HARNESS)?;
    }
    if args.stage != Stage::Unit {
        build(&PROGRAMS)?;
    }
    step.end();
    Ok(())
}

fn unit(paths: &Paths, args: &Args, skips: &mut Vec<Skip>) -> Result<()> {
    let mut run = |targets: &[&str]| {
        let mut cargo = paths.cargo();
        cargo.args(["test", "--no-fail-fast"]).args(targets).envs(args.fuzz());
        cargo.arg("--").args(&args.filter);
        watch(&mut cargo, Search::Stdout, skips)
    };
    let parser = run(&PARSER);
    let crates = run(&CRATES);
    parser.and(crates).and(run(&HARNESS))
}

/// Packets that are generated to compare two parsers: a minute's work.
const FUZZ_INPUTS: u64 = 40_000_000;

fn differential(paths: &Paths, args: &Args, skips: &mut Vec<Skip>) -> Result<()> {
    let mut parsers = paths.cargo();
    parsers.arg("test").args(PARSER).args(["--test", "fuzz"]);
    parsers.env(INPUTS, FUZZ_INPUTS.to_string()).envs(args.fuzz());
    parsers.args(["--", "--nocapture"]).args(&args.filter);
    let parsers = watch(&mut parsers, Search::Stdout, skips);

    let mut tshark = Command::new(program(paths, "differential")?);
    tshark.envs(test_environment(paths, args)?).current_dir(paths.root.join("tests"));
    parsers.and(watch(tshark.args(&args.filter), Search::Both, skips))
}

/// A run by TC, and where nothing is asked for in particular the ones by XDP.
fn end_to_end(paths: &Paths, args: &Args, (stages, skips): (&mut Stages, &mut Vec<Skip>)) {
    let hooks = match args.hook {
        Some(hook) => vec![hook],
        None if args.filter.is_empty() => Hook::ALL.to_vec(),
        None => vec![Hook::Tc],
    };
    for hook in hooks {
        let scenarios = if args.hook.is_some() { &[] } else { hook.scenarios() };
        let name = if hook == Hook::Tc { "e2e".to_owned() } else { format!("e2e {}", hook.as_str()) };
        stages.run(&name, || with_root(paths, "e2e", args, (hook, scenarios), skips));
    }
}

/// By this hook, and where there is no filter, these scenarios.
fn with_root(
    paths: &Paths,
    name: &str,
    args: &Args,
    (hook, scenarios): (Hook, &[&str]),
    skips: &mut Vec<Skip>,
) -> Result<()> {
    let mut variables = test_environment(paths, args)?;
    variables.push(("OBSERVER_TEST_HOOK", hook.as_str().into()));
    let mut test = process::as_root(&program(paths, name)?, &variables)?;
    watch(test.args(scenarios).args(&args.filter).current_dir(paths.root.join("tests")), Search::Both, skips)
}

/// What a program of the tests' package finds, as if cargo had started it.
fn test_environment(paths: &Paths, args: &Args) -> Result<Vec<(&'static str, OsString)>> {
    let mut variables = tools::environment(paths)?;
    variables.push(("CARGO_MANIFEST_DIR", paths.root.join("tests").into()));
    variables.extend(args.fuzz());
    Ok(variables)
}

const INPUTS: &str = "OBSERVER_FUZZ_INPUTS";
const SEED: &str = "OBSERVER_FUZZ_SEED";

impl Args {
    /// What was asked for of generated packets.
    fn fuzz(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let asked = [(INPUTS, self.inputs), (SEED, self.seed)];
        asked.into_iter().filter_map(|(name, value)| Some((name, value?.to_string().into())))
    }
}

/// A test target of the tests' package.
fn program(paths: &Paths, name: &str) -> Result<PathBuf> {
    let mut programs = programs(paths)?.into_iter();
    let program = programs.find_map(|(it, program)| (it == name).then_some(program));
    program.with_context(|| format!("cargo built no test program {name}"))
}

/// Boots other kernels. Who asks for them by name gets them, or an error.
fn other_kernels(paths: &Paths, args: &Args, (stages, skips): (&mut Stages, &mut Vec<Skip>)) -> Result<()> {
    let filter: Vec<String> = args.filter.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let extent = match args.stage {
        _ if !filter.is_empty() => Extent::Named(&filter),
        Stage::Kernels => Extent::Whole,
        _ => Extent::Core,
    };
    let versions = match args.stage {
        _ if !args.kernels.is_empty() => &args.kernels[..],
        Stage::Kernels => &kernels::ALL[..],
        _ => &kernels::OF_HOSTS[..],
    };
    if args.stage == Stage::Kernels {
        kernels::bring(paths, versions, false)?;
    }
    kernels::run(paths, versions, extent, (stages, skips))
}

/// The test targets of the tests' package.
const PROGRAMS: [&str; 5] = ["--release", "-p", "observer-tests", "--test", "*"];

/// Builds the test targets of the tests' package; returns their names and programs.
pub(crate) fn programs(paths: &Paths) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = paths.cargo();
    cargo
        .args(["test", "--quiet", "--no-run"])
        .args(PROGRAMS)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let build = cargo.output().map_err(|error| process::cannot_start(&cargo, &error))?;
    process::succeeded(&cargo, build.status)?;
    Ok(programs_in(&String::from_utf8_lossy(&build.stdout)))
}

/// The names and programs of test targets in cargo's messages.
fn programs_in(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["kind"][0] == "test")
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.into()))
        })
        .collect()
}

/// The tests of a program that these arguments choose.
pub(crate) fn tests_of(program: &Path, args: &[String]) -> Result<Vec<String>> {
    let mut list = Command::new(program);
    list.args(["--list", "--format", "terse"]).args(args);
    Ok(tests_in(&process::output(&mut list)?))
}

fn tests_in(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// Runs a child, shows what it prints and keeps its skips, whether it succeeds or not.
fn watch(command: &mut Command, search: Search, skips: &mut Vec<Skip>) -> Result<()> {
    command.stdout(Stdio::piped());
    if search == Search::Both {
        command.stderr(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| process::cannot_start(command, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let errors = scope.spawn(|| stderr.map_or_else(Vec::new, |from| show(from, io::stderr())));
        skips.extend(stdout.map_or_else(Vec::new, |from| show(from, io::stdout())));
        skips.extend(errors.join().unwrap_or_default());
    });
    skips.sort();
    skips.dedup();
    let status = child.wait().with_context(|| "the tests could not be waited for")?;
    process::succeeded(command, status)
}

fn show(from: impl Read, mut to: impl Write) -> Vec<Skip> {
    let mut skips = Vec::new();
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // A closed terminal is no reason to stop the tests.
        let _ = writeln!(to, "{line}");
        skips.extend(Skip::in_line(&line));
    }
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_libraries_and_other_programs() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"e2e"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"bench"},"executable":"/t/bench-1"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"e2e"},"executable":"/t/e2e-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(programs_in(messages), [("e2e".to_owned(), PathBuf::from("/t/e2e-1"))]);
    }

    #[test]
    fn tests_are_told_from_benchmarks() {
        assert_eq!(tests_in("flows::a: test\nfast: bench\nb: test\n"), ["flows::a", "b"]);
    }

    #[test]
    fn output_is_passed_on_and_skips_are_kept() {
        let mut shown = Vec::new();
        let skips = show(&b"running 2 tests\nSKIP vlan: no 8021q\n\xff\nlast"[..], &mut shown);
        assert_eq!(skips, [Skip::in_line("SKIP vlan: no 8021q").unwrap()]);
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "running 2 tests\nSKIP vlan: no 8021q\n\u{fffd}\nlast\n"
        );
    }

    #[test]
    fn a_failing_child_is_an_error() {
        assert!(watch(&mut Command::new("true"), Search::Both, &mut Vec::new()).is_ok());
        assert!(watch(&mut Command::new("false"), Search::Both, &mut Vec::new()).is_err());
    }
}
