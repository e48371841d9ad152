//! The host: directories, the port, another daemon, privileges.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
};

use anyhow::Result;
use observer_tests::lab;

use super::{HOST, USAGE, refused};

#[test]
fn an_output_directory_must_be_writable() -> Result<()> {
    let lab = lab!();
    let file = lab.path("daemon-out");
    fs::write(&file, "in the way")?;
    refused(&lab, USAGE, "daemon-out", |_| Ok(()))?;
    assert_eq!(fs::read_to_string(&file)?, "in the way", "the file in the way");
    Ok(())
}

#[test]
fn a_state_directory_must_be_writable() -> Result<()> {
    let lab = lab!();
    fs::write(lab.path("daemon-state"), "in the way")?;
    refused(&lab, USAGE, "daemon-state", |_| Ok(()))
}

#[test]
fn a_port_in_use_is_refused() -> Result<()> {
    let lab = lab!();
    let mut taken = None;
    refused(&lab, USAGE, "in use", |command| {
        let listen = command
            .get_args()
            .skip_while(|arg| *arg != "--listen")
            .nth(1)
            .map(std::ffi::OsStr::to_owned);
        taken = Some(TcpListener::bind(listen.unwrap_or_default().to_string_lossy().as_ref())?);
        Ok(())
    })
}

#[test]
fn a_second_daemon_with_the_same_state_is_refused() -> Result<()> {
    let lab = lab!();
    let first = lab.daemon().start()?;
    refused(&lab, USAGE, "daemon-state", |_| Ok(()))?;
    assert_eq!(first.get("/readyz")?.status, 200, "the first one");
    first.stop()?;
    Ok(())
}

#[test]
fn without_privilege_the_host_cannot_run_it() -> Result<()> {
    const NOBODY: u32 = 65_534;
    let lab = lab!();
    // Only the missing capabilities keep it from starting.
    for name in ["daemon-out", "daemon-state"] {
        fs::create_dir(lab.path(name))?;
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o777))?;
    }
    refused(&lab, HOST, "CAP_", |command| {
        command.uid(NOBODY).gid(NOBODY);
        Ok(())
    })
}
