//! Finds the eBPF object that `cargo xtask build` made, for the daemon to embed.

use std::{env, path::PathBuf, process::exit};

/// Where xtask puts it, below the target directory.
const OBJECT: &str = "ebpf/observer.bpf.o";

fn main() {
    println!("cargo::rerun-if-env-changed=OBSERVER_EBPF_OBJECT");
    let given = env::var_os("OBSERVER_EBPF_OBJECT").map(PathBuf::from);
    // OUT_DIR lies somewhere below the target directory, how deep depends on the profile and the target.
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let found = given.or_else(|| {
        out_dir.ancestors().map(|directory| directory.join(OBJECT)).find(|object| object.is_file())
    });
    let Some(object) = found else {
        eprintln!("the eBPF programs are not built: run `cargo xtask build` (or set OBSERVER_EBPF_OBJECT)");
        exit(1);
    };
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=OBSERVER_EBPF_OBJECT={}", object.display());
}
