//! Threads of the machine that are blocked in the kernel, for the message of a wait that failed:
//! a wait for the RTNL lock or for a disk looks like a fault of the daemon.

use std::{fmt::Write as _, fs, path::Path};

/// At most this many threads, and frames of each.
const THREADS: usize = 12;
const FRAMES: usize = 8;

/// Threads in uninterruptible sleep and the top of their kernel stacks; empty if there are none.
pub fn blocked() -> String {
    let mut text = String::new();
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let threads = numbers
        .filter_map(|process| fs::read_dir(process.path().join("task")).ok())
        .flat_map(|threads| threads.flatten().map(|thread| thread.path()));
    for thread in threads.filter(|path| sleeps(path)).take(THREADS) {
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        let stack = fs::read_to_string(thread.join("stack")).unwrap_or_default();
        let _ = writeln!(text, "blocked: {} ({})", thread.display(), name.trim_end());
        for frame in stack.lines().take(FRAMES) {
            let _ = writeln!(text, "    {frame}");
        }
    }
    text
}

fn sleeps(thread: &Path) -> bool {
    // The state follows the name, which is in parentheses and may contain any character.
    let stat = fs::read(thread.join("stat")).unwrap_or_default();
    stat.iter().rposition(|byte| *byte == b')').is_some_and(|end| stat.get(end + 2) == Some(&b'D'))
}
