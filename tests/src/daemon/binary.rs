//! The binary under test, as a command without settings.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Result, bail, ensure};

/// Path of the binary: `OBSERVER_BIN`, or cargo's release target.
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("OBSERVER_BIN") {
        return path.into();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"));
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("release/observer")
}

/// The binary as a command, without variables of this process that could configure it.
pub fn command() -> Result<Command> {
    let binary = binary();
    ensure!(
        binary.is_file(),
        "{} is not there: build it with `cargo xtask build`, or say where it is in OBSERVER_BIN",
        binary.display()
    );
    let mut command = Command::new(binary);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if text.starts_with("OBSERVER_") || text.starts_with("AWS_") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// A free address of this host, below the range of ephemeral ports.
pub fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 5000;
    for _ in 0..1000 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between 20000 and 30000");
}
