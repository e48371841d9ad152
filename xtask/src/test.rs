//! `test`: the test stages, their preparation, and one summary. Tests that need root run through
//! sudo; compilers do not.

use std::{
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::{
    build,
    kernels::{self, Extent, Version},
    paths::Paths,
    process,
    progress::{self, Step},
    setup,
    skips::{self, Skip},
    stages::Stages,
    targets, tools,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum, default_value = "all")]
    stage: Stage,
    /// Kernels to boot with `kernels`, such as 5.10 or `newest`
    kernels: Vec<Version>,
    /// Number of packets to generate for the parser, instead of each stage's default
    #[arg(long)]
    inputs: Option<u64>,
    /// Seed of the generated packets; a failing test prints it
    #[arg(long)]
    seed: Option<u64>,
    /// Only this hook, for `e2e`: every scenario, or those of the filter
    #[arg(long, value_enum)]
    hook: Option<Hook>,
    /// Only tests whose names contain one of these
    #[arg(last = true)]
    filter: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Tests that need neither root nor a kernel of their own
    Unit,
    /// The parser compared with tshark, and with a second parser on many generated packets
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

/// Hook that the daemon of a scenario uses unless the scenario chooses one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hook {
    Tc,
    XdpNative,
    XdpGeneric,
}

impl Hook {
    const ALL: [Self; 3] = [Self::Tc, Self::XdpNative, Self::XdpGeneric];

    /// Its name in the scenarios' harness.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    /// Scenarios to run if no filter is given. XDP repeats the conservation scenarios, except the
    /// longest.
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

/// The streams of a child that are shown and searched for skips.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Standard output only. Cargo prints progress to stderr, and only on a terminal.
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
    let lists = ["tests/expected-skips.txt", "tests/guest/expected-skips.txt"]
        .map(|list| paths.root.join(list));
    let judged = skips::judge(&skips, &lists);
    match (finished, judged) {
        (Err(failed), Err(skipped)) => Err(anyhow!("{failed:#}; {skipped:#}")),
        (finished, judged) => finished.and(judged),
    }
}

/// The parser's tests, with overflow checks.
const PARSER: [&str; 4] = ["--profile", "checked", "-p", "observer-ebpf"];
/// The tests of the other crates that need neither root nor a kernel of their own.
const CRATES: [&str; 5] = ["--release", "-p", "observer", "-p", "xtask"];
/// The harness's own tests.
const HARNESS: [&str; 4] = ["--release", "-p", "observer-tests", "--lib"];

/// Compiles all tests of the wanted stages, as one step.
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
        build(&targets::PROGRAMS)?;
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

/// Number of packets that compare the two parsers: about a minute's work.
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

/// Runs the scenarios by TC and, if neither a hook nor a filter is given, by XDP.
fn end_to_end(paths: &Paths, args: &Args, (stages, skips): (&mut Stages, &mut Vec<Skip>)) {
    let hooks = match args.hook {
        Some(hook) => vec![hook],
        None if args.filter.is_empty() => Hook::ALL.to_vec(),
        None => vec![Hook::Tc],
    };
    for hook in hooks {
        let scenarios = if args.hook.is_some() { &[] } else { hook.scenarios() };
        let name =
            if hook == Hook::Tc { "e2e".to_owned() } else { format!("e2e {}", hook.as_str()) };
        stages.run(&name, || with_root(paths, "e2e", args, (hook, scenarios), skips));
    }
}

/// Runs a test program as root with this hook; `scenarios` apply if there is no filter.
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
    watch(
        test.args(scenarios).args(&args.filter).current_dir(paths.root.join("tests")),
        Search::Both,
        skips,
    )
}

/// Environment of a program of the tests' package, as cargo would set it.
fn test_environment(paths: &Paths, args: &Args) -> Result<Vec<(&'static str, OsString)>> {
    let mut variables = tools::environment(paths)?;
    variables.push(("CARGO_MANIFEST_DIR", paths.root.join("tests").into()));
    variables.extend(args.fuzz());
    Ok(variables)
}

const INPUTS: &str = "OBSERVER_FUZZ_INPUTS";
const SEED: &str = "OBSERVER_FUZZ_SEED";

impl Args {
    /// Variables for the number and the seed of generated packets.
    fn fuzz(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let asked = [(INPUTS, self.inputs), (SEED, self.seed)];
        asked.into_iter().filter_map(|(name, value)| Some((name, value?.to_string().into())))
    }
}

/// The program of a test target of the tests' package.
fn program(paths: &Paths, name: &str) -> Result<PathBuf> {
    let mut programs = targets::programs(paths)?.into_iter();
    let program = programs.find_map(|(it, program)| (it == name).then_some(program));
    program.with_context(|| format!("cargo built no test program {name}"))
}

/// Boots other kernels. A kernel that was named and cannot be booted is an error.
fn other_kernels(
    paths: &Paths,
    args: &Args,
    (stages, skips): (&mut Stages, &mut Vec<Skip>),
) -> Result<()> {
    let filter: Vec<String> =
        args.filter.iter().map(|word| word.to_string_lossy().into_owned()).collect();
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

/// Runs a child, shows its output and collects its skips, also if it fails.
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
        // A closed terminal must not stop the tests.
        let _ = writeln!(to, "{line}");
        skips.extend(Skip::in_line(&line));
    }
    skips
}

#[cfg(test)]
mod tests {
    use super::*;

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
