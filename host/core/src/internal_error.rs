//! A panic that was caught.

use std::sync::Arc;

/// A panic that was caught, logged and counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("internal error in task `{task}` ({location})")]
pub struct InternalError {
    /// The kind of task.
    pub task: &'static str,
    /// File and line.
    pub location: Arc<str>,
}

impl InternalError {
    /// Creates the error for work that the end of the process aborted.
    pub(crate) fn process_ends(task: &'static str) -> Self {
        Self { task, location: "the process is ending".into() }
    }
}
