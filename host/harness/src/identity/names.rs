//! What Harness calls an environment.

use serde::{Deserialize, Serialize};

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "harness";

/// The identifiers of an environment. Those that Harness did not send are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// UUID.
    pub(crate) id: String,
    pub(crate) environment: String,
    pub(crate) project: String,
    pub(crate) account: String,
    /// The `cluster` parameter of every upstream query.
    pub(crate) cluster: String,
}
