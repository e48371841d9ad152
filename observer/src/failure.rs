//! Failures of a command, and their exit codes.

use std::{borrow::Cow, error::Error};

use crate::{
    config::ConfigError,
    kernel::{KernelError, preflight},
    limits::BudgetError,
    schema::SchemaError,
    tasks::TasksFileError,
};

/// Cause of a failure. Its text is one line, and names the remedy.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration: exit code 2.
    #[error(transparent)]
    Usage(Cause),
    /// The host cannot run it: exit code 3.
    #[error(transparent)]
    Host(Cause),
    /// It failed while running: exit code 1.
    #[error(transparent)]
    Running(Cause),
}

/// An error of one step of the work.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
struct StepError {
    step: &'static str,
    source: Cause,
}

impl Failure {
    /// Wrong usage or configuration.
    pub fn usage(cause: impl Into<Cause>) -> Self {
        Self::Usage(cause.into())
    }

    /// An unsuitable host.
    pub fn host(cause: impl Into<Cause>) -> Self {
        Self::Host(cause.into())
    }

    /// A failure while running.
    pub fn running(cause: impl Into<Cause>) -> Self {
        Self::Running(cause.into())
    }

    /// A failure of one step while running, such as `starting the sinks`.
    pub fn during(step: &'static str, source: impl Into<Cause>) -> Self {
        Self::running(StepError { step, source: source.into() })
    }

    /// The message on one line of at most 1,000 characters, without credentials in URLs.
    pub fn line(&self) -> String {
        // An error of a library may have several lines.
        let words = self.to_string();
        let words: Vec<_> = words.split_whitespace().map(without_credentials).collect();
        shortened(words.join(" "))
    }

    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Running(_) => 1,
            Self::Usage(_) => 2,
            Self::Host(_) => 3,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        Self::usage(error)
    }
}

impl From<TasksFileError> for Failure {
    fn from(error: TasksFileError) -> Self {
        Self::usage(error)
    }
}

impl From<preflight::Unfit> for Failure {
    fn from(error: preflight::Unfit) -> Self {
        Self::host(error)
    }
}

impl From<BudgetError> for Failure {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::FlowMemory { .. } => Self::usage(error),
            BudgetError::Memory { .. } | BudgetError::LockedMemory { .. } => Self::host(error),
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Memory { .. } | KernelError::PinsTaken(_) => Self::usage(error),
            _ => Self::host(error),
        }
    }
}

/// A word with `***` in place of the user name and password of a URL.
fn without_credentials(word: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = word.split_once("://") else { return word.into() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]).into(),
        None => word.into(),
    }
}

/// A line of at most 1,000 characters. The middle of a longer one is cut out: its beginning says
/// what is wrong, and its end how to fix it.
fn shortened(line: String) -> String {
    const LONGEST: usize = 1000;
    const PART: usize = LONGEST / 2 - 1;
    let count = line.chars().count();
    if count <= LONGEST {
        return line;
    }
    let beginning: String = line.chars().take(PART).collect();
    let end: String = line.chars().skip(count - PART).collect();
    format!("{beginning} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_short_line_without_credentials() {
        for (text, line) in [
            ("a\nb  c", "a b c"),
            (
                "invalid value 'http://me:se@cret@host:1/x@y' for it",
                "invalid value 'http://***@host:1/x@y' for it",
            ),
            ("see https://host/path@2", "see https://host/path@2"),
        ] {
            assert_eq!(Failure::usage(text).line(), line);
        }
        let long = format!("the value {} is too long: give a name", "é".repeat(100_000));
        let line = Failure::usage(long).line();
        assert!(line.starts_with("the value é") && line.ends_with(": give a name"), "{line}");
        assert!(line.chars().count() <= 1001, "{}", line.len());
    }
}
