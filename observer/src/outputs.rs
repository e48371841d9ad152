//! The outputs of a configuration, for `run` and `replay`.

use std::{
    fs,
    hash::Hasher as _,
    io::{self, Write as _},
    path::Path,
};

use fnv::FnvHasher;

use crate::{
    config::{OutputConfig, Outputs},
    failure::Failure,
    linux::access::Access,
    sink::SinkOptions,
};

/// Options of the sinks.
pub(crate) fn sink_options(output: &OutputConfig) -> SinkOptions {
    output.sink_options(flow_log_id)
}

/// Flow log ID in the format of AWS, the same for all files of one host.
fn flow_log_id() -> String {
    let host = fs::read_to_string("/etc/machine-id")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    let hash = short_hash(host.trim());
    format!("fl-{:017x}", u128::from(hash) & ((1 << 68) - 1))
}

/// Checks that files can be created in the output directory, if an output needs it.
pub(crate) fn writable(outputs: &Outputs) -> Result<(), Failure> {
    if outputs.has_files() { probe(&outputs.directory, outputs.access) } else { Ok(()) }
}

fn probe(directory: &Path, access: Access) -> Result<(), Failure> {
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    let attempt = || -> io::Result<()> {
        access.create_folder(directory)?;
        // A daemon that was killed may have left it, under the ID that this process has now.
        access.rewrite_file(&probe)?.write_all(b"observer")?;
        fs::remove_file(&probe)
    };
    attempt().map_err(|error| {
        Failure::usage(format!(
            "output directory {}: {error}: give one that can be written with --output-dir",
            directory.display()
        ))
    })
}

/// FNV-1a hash, the same in every run and version.
pub(crate) fn short_hash(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_a_killed_daemon_left_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join(format!(".probe-{}", std::process::id()));
        fs::write(&left, "obs").unwrap();
        probe(directory.path(), Access::records(None)).unwrap();
        assert!(!left.exists());
    }
}
