//! The name of an environment in logs, metrics, status and bindings.

use std::fmt;
use std::sync::Arc;

/// Names an environment in logs, metrics, status and bindings. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentLabel {
    vendor: &'static str,
    name: Arc<str>,
}

impl EnvironmentLabel {
    /// Creates the label of the environment `name` of `vendor`.
    #[must_use]
    pub fn new(vendor: &'static str, name: impl Into<Arc<str>>) -> Self {
        Self { vendor, name: name.into() }
    }

    /// Returns the vendor's name in lower case.
    #[must_use]
    pub fn vendor(&self) -> &'static str {
        self.vendor
    }

    /// Returns a span that adds the environment to log lines. Tasks of an environment are in one already.
    #[must_use]
    pub fn span(&self) -> tracing::Span {
        tracing::error_span!("environment", environment = %self)
    }

    /// Returns the configured name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl fmt::Display for EnvironmentLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.name)
    }
}
