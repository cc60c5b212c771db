//! What Harness calls an environment.

use serde::{Deserialize, Serialize};

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "harness";

/// What Harness calls an environment, as far as it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// UUID.
    pub(crate) id: String,
    pub(crate) environment: String,
    pub(crate) project: String,
    pub(crate) account: String,
    /// What upstream wants to find in every query.
    pub(crate) cluster: String,
}
