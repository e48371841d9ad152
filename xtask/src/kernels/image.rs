//! What a guest finds in its file system: one archive that the kernel unpacks into memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    cpio::Archive,
    emulator::{self, Emulator},
    kernel::Kernel,
    libraries, modules,
};
use crate::{
    host,
    paths::{self, Paths},
};

/// A test program to run in the guest.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Words without spaces.
    pub(super) args: Vec<String>,
    /// Each must be in the name of a test that ran.
    pub(super) expected: Vec<String>,
}

/// Programs of this system, or of the private trees, that the tests use.
const PROGRAMS: [&str; 4] = ["ip", "tc", "ethtool", "nft"];

const INIT: &str = include_str!("init.sh");
const FOLDERS: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/modules"];

/// The file system in the making: paths in the guest, and what lies there.
#[derive(Debug, Default)]
struct Contents {
    files: BTreeMap<String, Vec<u8>>,
    libraries: BTreeSet<PathBuf>,
    /// Where else libraries are looked for.
    search: OsString,
}

/// Packs it for a kernel; returns where it is.
pub(super) fn write(paths: &Paths, kernel: &Kernel, tasks: &[Task]) -> Result<PathBuf> {
    let trees = [paths.tools(), emulator::tree(paths)];
    let folders = trees.iter().flat_map(|tree| paths::libraries(tree)).filter(|folder| folder.exists());
    let mut contents = Contents { search: paths::join(folders)?, ..Contents::default() };
    contents.text("/init", INIT);
    contents.text("/plan", &plan(tasks));
    contents.copy(&Emulator::busybox(paths), "/bin/busybox")?;
    for name in PROGRAMS {
        let program = host::find_program(name)
            .or_else(|| trees.iter().find_map(|tree| host::find_program_in(tree, name)))
            .with_context(|| format!("{name} is not there; `cargo xtask setup` brings it"))?;
        contents.program(&program, &format!("/usr/bin/{name}"))?;
    }
    contents.program(&paths.daemon(), "/tests/observer")?;
    for task in tasks {
        contents.program(&task.program, &format!("/tests/{}", task.name))?;
    }
    contents.add_libraries()?;
    // The tests look for it where it was when they were compiled.
    let corpus = paths.root.join("tests/packets/corpus.toml");
    contents.copy(&corpus, &corpus.to_string_lossy())?;
    for (number, module) in modules::in_order(kernel)?.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        contents.copy(&kernel.modules().join(module), &format!("/modules/{number:02}-{name}"))?;
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
        let content = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
        self.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn program(&mut self, from: &Path, to: &str) -> Result<()> {
        self.libraries.extend(libraries::of(from, &self.search)?);
        self.copy(from, to)
    }

    /// All in one folder, but for the dynamic linker, whose place the programs name.
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

    /// All folders, each before what lies in it.
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
        assert_eq!(folders, ["/a", "/a/b", "/dev", "/modules", "/proc", "/run", "/sys", "/tmp"]);
    }

    #[test]
    fn the_plan_is_a_line_for_each_program() {
        let task = |name: &str, args: &[&str]| Task {
            name: name.into(),
            program: PathBuf::new(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            expected: Vec::new(),
        };
        assert_eq!(plan(&[task("programs", &[]), task("e2e", &["a", "b"])]), "programs \ne2e a b\n");
    }
}
