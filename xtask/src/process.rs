//! Child processes. Arguments are always explicit: nothing goes through a shell.

use std::{
    ffi::OsString,
    io::ErrorKind,
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::host;

/// Runs a child with inherited input and output. An unsuccessful exit is an error that names the
/// command.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    succeeded(command, status)
}

/// Runs a child and returns its standard output. Its standard error is shown only if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", shown(command), said.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

pub(crate) fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { bail!("`{}` failed ({status})", shown(command)) }
}

pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().display();
    if error.kind() == ErrorKind::NotFound {
        anyhow!("`{program}` is not there; `cargo xtask doctor` tells how to get it")
    } else {
        anyhow!("`{program}` could not be started: {error}")
    }
}

/// Lets sudo ask for its password if it needs one, before a step draws over the terminal.
pub(crate) fn authorise() -> Result<()> {
    match host::find_program("sudo").filter(|_| !host::is_root()) {
        Some(sudo) => {
            check(Command::new(sudo).arg("-v")).context("sudo does not let this user run as root")
        }
        None => Ok(()),
    }
}

/// A command that runs as root, with `variables` in its environment.
pub(crate) fn as_root(program: &Path, variables: &[(&str, OsString)]) -> Result<Command> {
    if host::is_root() {
        let mut command = Command::new(program);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        return Ok(command);
    }
    let Some(sudo) = host::find_program("sudo") else {
        bail!("`{}` needs root and there is no sudo: run this as root", program.display());
    };
    Ok(through_sudo(&sudo, program, variables))
}

fn through_sudo(sudo: &Path, program: &Path, variables: &[(&str, OsString)]) -> Command {
    let mut command = Command::new(sudo);
    if !variables.is_empty() {
        // sudo resets PATH and drops LD_LIBRARY_PATH whatever its options, so `env` sets them
        // behind it.
        command.args(["-E", "env"]);
        for (name, value) in variables {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            command.arg(pair);
        }
    }
    command.arg(program);
    command
}

/// The beginning of a command line, for messages: some commands have pages of arguments.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).display().to_string();
    let mut words = vec![name];
    words.extend(command.get_args().take(8).map(|arg| arg.display().to_string()));
    if command.get_args().count() > 8 {
        words.push("…".into());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_set_behind_sudo() {
        let check = |variables: &[(&str, OsString)], expected: &str| {
            assert_eq!(
                shown(&through_sudo(Path::new("/bin/sudo"), Path::new("/t/e2e"), variables)),
                expected
            );
        };
        check(&[], "sudo /t/e2e");
        check(
            &[("PATH", "/t:/bin".into()), ("A", "b c".into())],
            "sudo -E env PATH=/t:/bin A=b c /t/e2e",
        );
    }

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("ls").arg("/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("`ls /nowhere` failed: "), "{error}");
        assert!(error.contains("/nowhere"), "{error}");
        let error = output(&mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(error.starts_with("`no-such-program` is not there"), "{error}");
    }
}
