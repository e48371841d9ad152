//! Failures of a command, and their exit codes.

use crate::{
    config::ConfigError,
    kernel::{KernelError, preflight},
    limits::BudgetError,
    schema::SchemaError,
    tasks::TasksFileError,
};

/// The reason why a command failed: one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The host cannot run it: exit code 3.
    #[error("{0}")]
    Host(String),
    /// It failed while running: exit code 1.
    #[error("{0}")]
    Running(String),
}

impl Failure {
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
        Self::Usage(error.to_string())
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TasksFileError> for Failure {
    fn from(error: TasksFileError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<preflight::Unfit> for Failure {
    fn from(error: preflight::Unfit) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<BudgetError> for Failure {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::FlowMemory { .. } => Self::Usage(error.to_string()),
            BudgetError::Memory { .. } | BudgetError::LockedMemory { .. } => Self::Host(error.to_string()),
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Memory { .. } | KernelError::PinsTaken(_) => Self::Usage(error.to_string()),
            _ => Self::Host(error.to_string()),
        }
    }
}
