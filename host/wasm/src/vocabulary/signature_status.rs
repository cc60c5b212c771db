//! What is known of the signature of a running version.

use serde::Serialize;
use utoipa::ToSchema;

/// The signature of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum SignatureStatus {
    /// Signatures are not checked.
    Unchecked,
    /// A trusted key has signed it.
    Valid {
        /// The public key.
        key: String,
    },
    /// It has no valid signature of a trusted key, and none is required.
    Invalid {
        /// What is wrong.
        text: String,
    },
}
