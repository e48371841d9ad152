//! A guest's file system: one archive that the kernel unpacks into memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{cpio::Archive, guest_tools, kernel::Kernel, libraries, modules};
use crate::{
    host,
    object::Object,
    paths::{self, Paths},
    process,
    tools::{TOOLS, Use},
};

/// A test program to run in the guest.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Arguments without spaces.
    pub(super) args: Vec<String>,
    /// The tests that these arguments select.
    pub(super) tests: BTreeSet<String>,
}

/// Programs in a guest that are not in the list of the tests' tools.
const PROGRAMS: [&str; 2] = ["tc", "nft"];
/// Tools that are left out because they are large and behave alike on all kernels.
const NOT_IN_GUESTS: [&str; 6] = ["promtool", "pip3", "dockerd", "containerd", "runc", "busybox"];

const INIT: &str = include_str!("init.sh");
/// The program that the kernel calls to load a module.
const MODPROBE: &str = "#!/bin/busybox sh\nexec /bin/busybox modprobe \"$@\"\n";
const FOLDERS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

/// A file system that is being assembled: paths in the guest and their contents.
#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Vec<u8>>,
    libraries: BTreeSet<PathBuf>,
    /// Further folders to search for libraries.
    search: OsString,
}

/// Packs the file system for a kernel; returns the archive's path.
pub(super) fn write(paths: &Paths, kernel: &Kernel, tasks: &[Task]) -> Result<PathBuf> {
    let trees = [paths.tools(), guest_tools::tree(paths)];
    let folders =
        trees.iter().flat_map(|tree| paths::libraries(tree)).filter(|folder| folder.exists());
    let mut contents = Contents { search: paths::join(folders)?, ..Contents::default() };
    contents.text("/init", INIT);
    contents.text("/plan", &plan(tasks));
    contents.text("/sbin/modprobe", MODPROBE);
    contents.copy(&guest_tools::busybox(paths), "/bin/busybox")?;
    let tools =
        TOOLS.iter().filter(|tool| tool.uses.contains(&Use::Tests)).map(|tool| tool.program);
    for name in tools.filter(|name| !NOT_IN_GUESTS.contains(name)).chain(PROGRAMS) {
        let program = host::find_program(name)
            .or_else(|| trees.iter().find_map(|tree| host::find_program_in(tree, name)))
            .with_context(|| format!("{name} is not there; `cargo xtask setup` brings it"))?;
        contents.program(&program, &format!("/usr/bin/{name}"))?;
    }
    let scratch = kernel.stripped();
    contents.own_program(&paths.daemon(), "/tests/observer", &scratch)?;
    contents.copy(&Object::Product.path(paths), "/tests/observer.bpf.o")?;
    for task in tasks {
        contents.own_program(&task.program, &format!("/tests/{}", task.name), &scratch)?;
    }
    contents.add_libraries()?;
    contents.add_data(&paths.root.join("tests"))?;
    for module in modules::of(kernel)? {
        contents.module(kernel, &module)?;
    }
    for list in modules::LISTS.into_iter().filter(|list| kernel.modules().join(list).exists()) {
        contents.module(kernel, list)?;
    }
    let image = kernel.initramfs();
    contents.pack(&image).with_context(|| format!("{} cannot be written", image.display()))?;
    Ok(image)
}

/// A line for each program: its name and its arguments.
fn plan(tasks: &[Task]) -> String {
    let line = |task: &Task| format!("{} {}\n", task.name, task.args.join(" "));
    tasks.iter().map(line).collect()
}

impl Contents {
    fn text(&mut self, to: &str, text: &str) {
        self.files.insert(to.to_owned(), text.as_bytes().to_vec());
    }

    fn copy(&mut self, from: &Path, to: &str) -> Result<()> {
        let content =
            fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
        self.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        self.libraries.extend(libraries::of(from, &self.search)?);
        self.copy(from, to)
    }

    /// Adds a program of this workspace without its debug information, which is most of its size.
    fn own_program(&mut self, from: &Path, to: &str, scratch: &Path) -> Result<()> {
        if host::find_program("strip").is_none() {
            return self.program(from, to);
        }
        process::check(
            Command::new("strip").arg("--strip-debug").arg("-o").arg(scratch).arg(from),
        )?;
        self.program(scratch, to)?;
        Ok(fs::remove_file(scratch)?)
    }

    /// Adds a file of the kernel's modules.
    fn module(&mut self, kernel: &Kernel, file: &str) -> Result<()> {
        self.copy(
            &kernel.modules().join(file),
            &format!("/lib/modules/{}/{file}", kernel.release()),
        )
    }

    /// Adds all files below a folder except source code, under the path that they had when the
    /// tests were compiled.
    fn add_data(&mut self, folder: &Path) -> Result<()> {
        for entry in
            fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                self.add_data(&path)?;
            } else if path.extension().is_none_or(|extension| extension != "rs") {
                self.copy(&path, &path.to_string_lossy())?;
            }
        }
        Ok(())
    }

    /// Adds all libraries in one folder, except the dynamic linker, whose path is fixed in the
    /// programs.
    fn add_libraries(&mut self) -> Result<()> {
        for library in std::mem::take(&mut self.libraries) {
            let Some(name) = library.file_name().and_then(|name| name.to_str()) else { continue };
            let place = if name.starts_with("ld-") {
                library.to_string_lossy().into_owned()
            } else {
                format!("/lib/{name}")
            };
            self.copy(&library, &place)?;
        }
        Ok(())
    }

    fn pack(&self, image: &Path) -> Result<()> {
        let mut archive = Archive::new(BufWriter::new(File::create(image)?));
        for folder in self.folders() {
            archive.folder(folder)?;
        }
        for (path, content) in &self.files {
            archive.file(path, content)?;
        }
        archive.finish()?.flush()?;
        Ok(())
    }

    /// All folders, each before its contents.
    fn folders(&self) -> BTreeSet<&str> {
        let above = |path| Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let folders = self.files.keys().flat_map(|path| above(path.as_str()));
        folders.chain(FOLDERS).filter(|folder| *folder != "/").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_lies_in_them() {
        let mut contents = Contents::default();
        contents.text("/a/b/c", "");
        let folders: Vec<_> = contents.folders().into_iter().collect();
        assert_eq!(folders, ["/a", "/a/b", "/dev", "/proc", "/run", "/sys", "/tmp"]);
    }

    #[test]
    fn the_plan_is_a_line_for_each_program() {
        let task = |name: &str, args: &[&str]| Task {
            name: name.into(),
            program: PathBuf::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            tests: BTreeSet::new(),
        };
        assert_eq!(
            plan(&[task("programs", &[]), task("e2e", &["a", "b"])]),
            "programs \ne2e a b\n"
        );
    }
}
