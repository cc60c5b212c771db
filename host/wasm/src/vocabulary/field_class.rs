//! Classes of fields in captures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A class of fields of calls. Credentials are in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FieldClass {
    /// Paths and queries.
    Targets,
    /// Values of headers, other than those with credentials.
    Headers,
    /// Addresses of clients.
    Addresses,
    /// Identities that request plugins gave to callers.
    Identities,
    /// Keys and attributes of contexts and targets.
    Contexts,
    /// Values in events.
    Events,
    /// Values in flags, segments and results.
    Data,
}

impl FieldClass {
    /// All classes.
    pub const ALL: [Self; 7] =
        [Self::Targets, Self::Headers, Self::Addresses, Self::Identities, Self::Contexts, Self::Events, Self::Data];

    /// Returns the name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Targets => "targets",
            Self::Headers => "headers",
            Self::Addresses => "addresses",
            Self::Identities => "identities",
            Self::Contexts => "contexts",
            Self::Events => "events",
            Self::Data => "data",
        }
    }
}
