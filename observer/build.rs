//! Finds the eBPF object for the daemon to embed: the one in the repository, as long as it belongs
//! to its sources.

use std::{
    env, io,
    path::{Path, PathBuf},
};

#[path = "../observer-ebpf/objects/fresh.rs"]
mod fresh;

use fresh::State;

const OBJECT: &str = "observer.bpf.o";
/// Names another object to embed, and is how the crate learns which one was found.
const VARIABLE: &str = "OBSERVER_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let object = match env::var_os(VARIABLE) {
        Some(object) => Ok(PathBuf::from(object)),
        None => in_repository(),
    };
    match object {
        Ok(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!("cargo::rustc-env={VARIABLE}={}", object.display());
        }
        // Another object than the sources describe would share maps of another layout with the
        // daemon.
        Err(reason) => println!(
            "cargo::error=the eBPF objects in {} cannot be used: {reason}. Run `cargo xtask build`, which builds them anew",
            fresh::FOLDER
        ),
    }
}

fn in_repository() -> io::Result<PathBuf> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let workspace = package.parent().unwrap_or(Path::new("."));
    let folder = workspace.join(fresh::FOLDER);
    for input in ["observer-ebpf/src", "observer-ebpf/Cargo.toml", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo::rerun-if-changed={}", folder.join(fresh::RECORD).display());
    match fresh::state(workspace, &[OBJECT])? {
        State::Fresh => Ok(folder.join(OBJECT)),
        State::Stale(reason) => Err(io::Error::other(reason)),
    }
}
