//! The modules that a guest loads, each after those it needs.

use std::fs;

use anyhow::{Context as _, Result};

use super::kernel::Kernel;

/// What the tests use of the kernel beyond its core. One that a kernel has no module of is a part of it.
const WANTED: [&str; 11] = [
    "veth",
    "8021q",
    "bridge",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "act_mirred",
    "tcp_diag",
    "nf_tables",
    "nft_ct",
    "nft_reject_inet",
];

/// Their files, relative to the kernel's modules, in the order in which they can be loaded.
pub(super) fn in_order(kernel: &Kernel) -> Result<Vec<String>> {
    let path = kernel.dependencies();
    let dependencies =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(order(&WANTED, &dependencies))
}

fn order(wanted: &[&str], dependencies: &str) -> Vec<String> {
    let lines: Vec<(&str, &str)> = dependencies.lines().filter_map(|line| line.split_once(':')).collect();
    let mut ordered = Vec::new();
    for &name in wanted {
        if let Some((file, _)) = lines.iter().find(|(file, _)| is_called(file, name)) {
            add(file, &lines, &mut ordered);
        }
    }
    ordered
}

fn add(file: &str, lines: &[(&str, &str)], ordered: &mut Vec<String>) {
    if ordered.iter().any(|known| known == file) {
        return;
    }
    if let Some((_, needed)) = lines.iter().find(|(it, _)| *it == file) {
        for needed in needed.split_whitespace() {
            add(needed, lines, ordered);
        }
    }
    ordered.push(file.to_owned());
}

/// Whether a module's file, compressed or not, is that of `name`.
fn is_called(file: &str, name: &str) -> bool {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/net/8021q/8021q.ko.xz: kernel/net/802/garp.ko.xz kernel/net/llc/llc.ko.xz\n\
                                kernel/net/802/garp.ko.xz: kernel/net/llc/llc.ko.xz\n\
                                kernel/net/llc/llc.ko.xz:\nkernel/drivers/net/veth.ko:\n";

    #[test]
    fn a_module_comes_after_those_it_needs_and_once() {
        let ordered = order(&["8021q", "veth", "built_in", "llc"], DEPENDENCIES);
        let names: Vec<_> = ordered.iter().filter_map(|file| file.rsplit('/').next()).collect();
        assert_eq!(names, ["llc.ko.xz", "garp.ko.xz", "8021q.ko.xz", "veth.ko"]);
    }
}
