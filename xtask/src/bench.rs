//! `bench`: runs the benchmarks as root, with the environment of the tests.

use std::{ffi::OsString, fs};

use anyhow::Result;

use crate::{
    build,
    object::Object,
    paths::Paths,
    process,
    progress::{self, Step},
    setup, tools,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the benchmark (such as `kernel`) and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(paths: &Paths, args: &Args) -> Result<()> {
    progress::plan(setup::steps_of_test_tools(paths) + build::steps(paths)? + 1);
    setup::test_tools(paths)?;
    build::all(paths)?;
    let step = Step::begin("compiling the benchmarks");
    step.cargo(paths.cargo().args([
        "build",
        "--release",
        "-p",
        "observer-tests",
        "--bin",
        "observer-bench",
        "--features",
        "bench",
        // The benchmarks compile with the optimisation of a release; the tests' profile favours
        // compile time.
        "--config",
        "profile.release.package.observer-tests.opt-level=3",
    ]))?;
    step.end();

    let results = paths.target.join("bench");
    fs::create_dir_all(&results)?;
    let mut variables = tools::environment(paths)?;
    variables.push(("OBSERVER_BENCH_DIR", results.into()));
    variables.push(("OBSERVER_BENCH_OBJECT", Object::Bench.path(paths).into()));
    let program = paths.target.join("release/observer-bench");
    process::check(process::as_root(&program, &variables)?.args(&args.args))
}
