//! Checks of the host before the daemon changes anything.

use std::fs;

use nix::sys::{
    resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
    utsname::uname,
};

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    major: u32,
    minor: u32,
}

impl KernelVersion {
    /// Oldest supported version. The spill ring needs Linux 5.8, and the oldest kernel of ECS hosts
    /// is 5.10.
    pub const OLDEST: Self = Self { major: 5, minor: 10 };

    /// A version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Version of the running kernel; 0.0 if it is unreadable.
    pub fn running() -> Self {
        uname()
            .ok()
            .and_then(|name| Self::parse(&name.release().to_string_lossy()))
            .unwrap_or(Self { major: 0, minor: 0 })
    }

    /// Reads the version from a release such as `6.1.192+`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some(Self { major: numbers.next()?.ok()?, minor: numbers.next()?.ok()? })
    }

    /// Returns whether this is version `major.minor` or later.
    pub const fn at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || self.major == major && self.minor >= minor
    }
}

impl std::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Required capabilities, by their numbers in `capability.h`.
const CAPABILITIES: [(u32, &str); 3] =
    [(11, "CAP_NET_BROADCAST"), (12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Reason why the daemon cannot run on this host. Messages say how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A capability is missing.
    #[error(
        "{0} is missing: run as root, or with CAP_NET_ADMIN, CAP_NET_BROADCAST and CAP_SYS_ADMIN"
    )]
    Privilege(&'static str),
    /// The kernel is too old.
    #[error("Linux {0} is too old: observer needs {oldest} or later", oldest = KernelVersion::OLDEST)]
    Kernel(KernelVersion),
    /// `bpf()` is unavailable.
    #[error(
        "this kernel offers no eBPF ({0}): boot one with CONFIG_BPF_SYSCALL=y, and allow bpf() to this process"
    )]
    Bpf(String),
}

/// Checks capabilities, kernel version and eBPF. Also raises the limits of this process on locked
/// memory and descriptors as far as possible.
pub fn check() -> Result<(), Unfit> {
    let effective = effective_capabilities();
    if let Some((_, name)) = CAPABILITIES.iter().find(|(bit, _)| effective >> bit & 1 == 0) {
        return Err(Unfit::Privilege(name));
    }
    let kernel = KernelVersion::running();
    if kernel < KernelVersion::OLDEST {
        return Err(Unfit::Kernel(kernel));
    }
    // Before Linux 5.11 maps count as locked memory of the process. Raising the limit may be
    // forbidden.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    // systemd sets the soft limit to 1,024 for select(2), which the daemon does not call
    // (systemd.exec(5)).
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    super::grace::Grace::map_in_map().map_err(|error| Unfit::Bpf(error.to_string()))?;
    Ok(())
}

/// Effective capabilities of this process, as a bit mask.
fn effective_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Number of CPUs that the kernel may bring up: the highest CPU number plus one.
pub fn possible_cpus() -> u32 {
    // "0-3" or "0,2-3": the last number is the highest.
    fs::read_to_string("/sys/devices/system/cpu/possible")
        .unwrap_or_default()
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|last| last.parse::<u32>().ok())
        .map_or(1, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, major, minor) in [
            ("5.10.0-46-cloud-amd64", 5, 10),
            ("6.1.192+", 6, 1),
            ("6.18.44-fc-v657", 6, 18),
            ("7.2-rc1", 7, 2),
        ] {
            assert_eq!(
                KernelVersion::parse(release),
                Some(KernelVersion { major, minor }),
                "{release}"
            );
        }
        assert_eq!(KernelVersion::parse("unknown"), None);
    }

    #[test]
    fn versions_compare_by_number() {
        let version = KernelVersion { major: 5, minor: 10 };
        assert!(version.at_least(5, 9) && version.at_least(4, 20) && version.at_least(5, 10));
        assert!(!version.at_least(5, 11) && !version.at_least(6, 0));
    }
}
