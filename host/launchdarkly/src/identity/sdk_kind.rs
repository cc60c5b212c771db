//! The three kinds of SDKs.

use serde::{Deserialize, Serialize};
use yardarm_core::budget::Trust;

/// Kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum SdkKind {
    Server,
    Mobile,
    Browser,
}

impl SdkKind {
    /// The trust in the credential of such a caller. Mobile keys are shipped within apps.
    pub(crate) fn trust(self) -> Trust {
        match self {
            Self::Server => Trust::Secret,
            Self::Mobile => Trust::Embedded,
            Self::Browser => Trust::Public,
        }
    }

    /// Its name for plugins and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Mobile => "mobile",
            Self::Browser => "client",
        }
    }
}
