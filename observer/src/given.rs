//! Origin of each setting: a flag, a variable, or the configuration file. Error messages name the
//! origin.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use clap::{
    Command, CommandFactory as _, Error,
    error::{ContextKind, ContextValue},
};

use crate::{cli::Cli, config::one_line};

/// Origin of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A flag.
    Flag,
    /// A variable, by its name.
    Variable(String),
    /// The configuration file.
    File(PathBuf),
}

impl fmt::Display for Given {
    /// Suffix for a message that names the flag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => Ok(()),
            Self::Variable(name) => write!(f, " (given by the variable {name})"),
            Self::File(path) => write!(f, " (given in {})", path.display()),
        }
    }
}

/// Arguments and variables of this process.
#[derive(Debug)]
pub struct Invocation {
    arguments: Vec<OsString>,
    command: Command,
}

impl Invocation {
    /// The arguments of this process.
    pub fn current() -> Self {
        Self::of(env::args_os().skip(1).collect())
    }

    fn of(arguments: Vec<OsString>) -> Self {
        let all = Cli::command();
        let verb = arguments.iter().find_map(|argument| all.find_subcommand(argument).cloned());
        Self { arguments, command: verb.unwrap_or(all) }
    }

    /// Origin of the setting with this long flag name. `file` is the configuration file, if there
    /// is one.
    pub fn given(&self, flag: &str, file: Option<&Path>) -> Given {
        let is_flag = |argument: &OsString| {
            let rest = argument.as_encoded_bytes().strip_prefix(b"--");
            let rest = rest.and_then(|rest| rest.strip_prefix(flag.as_bytes()));
            rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
        };
        if self.arguments.iter().any(is_flag) {
            return Given::Flag;
        }
        match (self.variable(flag).filter(|name| env::var_os(name).is_some()), file) {
            (Some(name), _) => Given::Variable(name.to_string_lossy().into_owned()),
            (None, Some(file)) => Given::File(file.to_path_buf()),
            (None, None) => Given::Flag,
        }
    }

    fn variable(&self, flag: &str) -> Option<&OsStr> {
        self.command.get_arguments().find(|argument| argument.get_long() == Some(flag))?.get_env()
    }

    /// Name of a variable that is empty and not overridden by a flag.
    pub fn empty_variable(&self) -> Option<String> {
        let flags = self.command.get_arguments().filter_map(|argument| argument.get_long());
        let given = flags.filter_map(|flag| match self.given(flag, None) {
            Given::Variable(name) => Some(name),
            Given::Flag | Given::File(_) => None,
        });
        given.into_iter().find(|name| env::var_os(name).is_some_and(|value| value.is_empty()))
    }

    /// Message of a clap error. It names the variable if the invalid value came from one.
    pub fn described(&self, error: &Error) -> String {
        let line = one_line(error);
        // Such as "--listen <ADDR>".
        if let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
            && let Some(flag) = argument.split(' ').next().and_then(|flag| flag.strip_prefix("--"))
            && let Given::Variable(name) = self.given(flag, None)
        {
            return line.replace(&format!("'{argument}'"), &format!("the variable {name}"));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(arguments: &[&str]) -> Invocation {
        Invocation::of(arguments.iter().map(Into::into).collect())
    }

    #[test]
    fn a_flag_is_found_in_both_spellings() {
        for arguments in [&["run", "--listen", "x"][..], &["run", "--listen=x"]] {
            assert_eq!(invocation(arguments).given("listen", Some(Path::new("/f"))), Given::Flag);
        }
        let other = invocation(&["run", "--listening", "x"]);
        assert_eq!(other.given("listen", Some(Path::new("/f"))), Given::File("/f".into()));
    }

    #[test]
    fn every_setting_has_a_variable_that_is_named_after_its_flag() {
        let run = invocation(&["run"]);
        for argument in run.command.get_arguments().filter(|argument| argument.get_env().is_some()) {
            let flag = argument.get_long().unwrap();
            let name = format!("OBSERVER_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(run.variable(flag), Some(OsStr::new(&name)));
        }
    }
}
