//! What a scenario needs from its machine. One that cannot run says so in a line `SKIP name: what is missing`.

use std::{
    env, fmt, fs,
    io::{self, Write as _},
    num::NonZero,
    path::PathBuf,
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use nix::{sys::utsname::uname, unistd::Uid};

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(String);

impl Missing {
    /// This.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Root: namespaces, veth pairs, raw sockets and eBPF all need it.
pub fn root() -> Result<(), Missing> {
    if Uid::effective().is_root() { Ok(()) } else { Err(Missing("root".into())) }
}

/// This version of Linux or a later one.
pub fn linux(major: u32, minor: u32) -> Result<(), Missing> {
    let release = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if running >= (major, minor) {
        Ok(())
    } else {
        Err(Missing(format!("Linux {major}.{minor}, this is {release}")))
    }
}

/// This many CPUs.
pub fn cpus(count: usize) -> Result<(), Missing> {
    let here = thread::available_parallelism().map_or(1, NonZero::get);
    if here >= count { Ok(()) } else { Err(Missing(format!("{count} CPUs, there are {here}"))) }
}

/// A program on `PATH`.
pub fn program(name: &str) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| Missing(format!("the program {name} on PATH")))
}

/// A kernel that says why it drops packets, and netfilter's reason among them (Linux 5.18).
pub fn drop_reasons() -> Result<(), Missing> {
    drop_reason("NETFILTER_DROP")
}

/// A kernel that knows this reason to drop packets.
pub fn drop_reason(name: &str) -> Result<(), Missing> {
    let known = format!("SKB_DROP_REASON_{name}\0");
    let types =
        fs::read("/sys/kernel/btf/vmlinux").map_err(|_| Missing("the kernel's types (BTF)".into()))?;
    let told = types.windows(known.len()).any(|window| window == known.as_bytes());
    if told { Ok(()) } else { Err(Missing(format!("a kernel that drops packets for {name}"))) }
}

/// A kernel that shows what it drops, and not why.
pub fn no_drop_reasons() -> Result<(), Missing> {
    match drop_reasons() {
        Ok(()) => Err(Missing("a kernel that does not say why it drops packets".into())),
        Err(_) => Ok(()),
    }
}

/// Says that the test `name` does not run.
pub fn say_skip(name: &str, missing: &Missing) {
    // Not `println`, which the test harness keeps to itself where a test passes.
    let _ = writeln!(io::stdout().lock(), "SKIP {name}: {missing}");
}

/// The name of the test that this is written in, as the test harness prints it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::requires::trimmed(std::any::type_name_of_val(&here))
    }};
}

/// `crate::module::test::here` without its first and last parts.
pub fn trimmed(path: &'static str) -> &'static str {
    let path = path.split_once("::").map_or(path, |(_, rest)| rest);
    path.strip_suffix("::here").unwrap_or(path)
}

/// The value of a requirement; where it is not met, the test ends as a spoken skip.
#[macro_export]
macro_rules! need {
    ($requirement:expr) => {
        match $requirement {
            Ok(it) => it,
            Err(missing) => {
                $crate::requires::say_skip($crate::test_name!(), &missing);
                return Ok(());
            }
        }
    };
}

/// A [`Lab`](crate::lab::Lab) for the test that this is written in; a spoken skip where there can be none.
#[macro_export]
macro_rules! lab {
    () => {{
        $crate::need!($crate::requires::root());
        $crate::lab::Lab::new($crate::test_name!(), 1)?
    }};
    (alone) => {{
        $crate::need!($crate::requires::root());
        $crate::lab::Lab::new($crate::test_name!(), $crate::requires::TURNS)?
    }};
}

/// Scenarios that may run at once, however many threads the test harness has: they share CPUs and packet queues.
pub const TURNS: usize = 2;

static FREE: Mutex<usize> = Mutex::new(TURNS);
static FREED: Condvar = Condvar::new();

/// The right to run, given back when dropped.
#[derive(Debug)]
pub struct Turn(usize);

impl Turn {
    /// Waits for `count` of all turns.
    pub fn take(count: usize) -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = FREED.wait_while(free, |free| *free < count).unwrap_or_else(PoisonError::into_inner);
        *free -= count;
        Self(count)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        FREED.notify_all();
    }
}
