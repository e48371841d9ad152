//! The shared libraries of a program, as the dynamic linker resolves them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::process;

/// The libraries of a program and its interpreter; `search` lists further folders.
pub(super) fn of(program: &Path, search: &OsStr) -> Result<BTreeSet<PathBuf>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C").env("LD_LIBRARY_PATH", search);
    match in_answer(&process::output(&mut ldd)?) {
        Ok(libraries) => Ok(libraries),
        Err(NotFound(library)) => bail!("{} needs {library}, which is nowhere", program.display()),
    }
}

/// The name of a library that the dynamic linker did not find.
#[derive(Debug, PartialEq, Eq)]
struct NotFound(String);

/// The files in the output of `ldd`.
fn in_answer(answer: &str) -> Result<BTreeSet<PathBuf>, NotFound> {
    let mut found = BTreeSet::new();
    for line in answer.lines().map(str::trim) {
        if let Some((name, "not found")) = line.split_once(" => ") {
            return Err(NotFound(name.to_owned()));
        }
        // `name => path (address)`, and for the interpreter `path (address)`
        let file = line.split_once(" => ").map_or(line, |(_, file)| file);
        if let Some(file) = file.split(" (").next().filter(|file| file.starts_with('/')) {
            found.insert(file.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_interpreter_are_found_and_the_kernels_own_is_not() {
        let answer = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let files =
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(in_answer(answer), Ok(files.into()));
        assert_eq!(in_answer("\tstatically linked\n"), Ok(BTreeSet::new()));
        assert_eq!(in_answer("\tlibx.so.1 => not found\n"), Err(NotFound("libx.so.1".into())));
    }
}
