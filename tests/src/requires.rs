//! Requirements of scenarios. A scenario that cannot run prints `SKIP name: missing requirement`.

use std::{
    env, fmt, fs,
    io::{self, Write as _},
    num::NonZero,
    path::PathBuf,
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use nix::{sys::utsname::uname, unistd::Uid};

/// A missing requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(String);

impl Missing {
    /// Names the requirement.
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

/// Linux of this version or later.
pub fn linux(major: u32, minor: u32) -> Result<(), Missing> {
    let release =
        uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let running = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if running >= (major, minor) {
        Ok(())
    } else {
        Err(Missing(format!("Linux {major}.{minor}, this is {release}")))
    }
}

/// At least this many CPUs.
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

/// A kernel that reports reasons for drops, netfilter's among them (Linux 5.18).
pub fn drop_reasons() -> Result<(), Missing> {
    drop_reason("NETFILTER_DROP")
}

/// A kernel that knows this drop reason.
pub fn drop_reason(name: &str) -> Result<(), Missing> {
    let known = format!("SKB_DROP_REASON_{name}\0");
    let types = fs::read("/sys/kernel/btf/vmlinux")
        .map_err(|_| Missing("the kernel's types (BTF)".into()))?;
    let told = types.windows(known.len()).any(|window| window == known.as_bytes());
    if told { Ok(()) } else { Err(Missing(format!("a kernel that drops packets for {name}"))) }
}

/// A kernel that reports drops without reasons.
pub fn no_drop_reasons() -> Result<(), Missing> {
    match drop_reasons() {
        Ok(()) => Err(Missing("a kernel that does not say why it drops packets".into())),
        Err(_) => Ok(()),
    }
}

/// Prints the skip of the test `name`.
pub fn say_skip(name: &str, missing: &Missing) {
    // Written directly: the test harness hides `println` output of passing tests.
    let _ = writeln!(io::stdout().lock(), "SKIP {name}: {missing}");
}

/// Name of the calling test, as the test harness prints it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::requires::trimmed(std::any::type_name_of_val(&here))
    }};
}

/// Removes the first and last parts of `crate::module::test::here`.
pub fn trimmed(path: &'static str) -> &'static str {
    let path = path.split_once("::").map_or(path, |(_, rest)| rest);
    path.strip_suffix("::here").unwrap_or(path)
}

/// The value of a requirement. If it is missing, the test prints a skip and returns.
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

/// A [`Lab`](crate::lab::Lab) for the calling test. If there can be none, the test prints a skip
/// and returns.
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

/// Number of scenarios that may run at once, for any number of test threads: they share CPUs and
/// packet queues.
pub const TURNS: usize = 2;

static FREE: Mutex<usize> = Mutex::new(TURNS);
static FREED: Condvar = Condvar::new();

/// A number of turns, released when dropped.
#[derive(Debug)]
pub struct Turn(usize);

impl Turn {
    /// Waits for `count` turns.
    pub fn take(count: usize) -> Self {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            FREED.wait_while(free, |free| *free < count).unwrap_or_else(PoisonError::into_inner);
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
