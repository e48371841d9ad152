//! Failures of a command, and their exit codes.

use std::error::Error;

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
