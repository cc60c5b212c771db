//! How far the staging of a plugin is.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::time::unix_ms;

/// A step of staging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StagingStep {
    /// The file is inspected.
    #[default]
    Checking,
    /// Other files are compiled first.
    Waiting,
    /// The file is compiled, or its compiled form is loaded.
    Compiling,
    /// The plugin is linked, and its first instances are created.
    Initializing,
}

/// The step in which a plugin is, shared between its staging and its status. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Mutex<(StagingStep, u64)>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((StagingStep::default(), unix_ms()))))
    }
}

impl Progress {
    /// Begins a step, unless it has begun.
    pub(crate) fn enter(&self, step: StagingStep) {
        let mut current = self.0.lock();
        if current.0 != step {
            *current = (step, unix_ms());
        }
    }

    /// Returns the step and since when, in Unix milliseconds.
    pub(crate) fn step(&self) -> (StagingStep, u64) {
        *self.0.lock()
    }
}
