//! What we are for upstream: a token, and the environment that it leads to.

use yardarm_core::Secret;

use super::names::Identity;

/// A token and what it says.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) token: Secret,
    pub(crate) identity: Identity,
}

/// What SDKs may say of themselves when they present a key; nothing, or nobody in particular.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthTarget {
    None,
    Empty,
}

impl Session {
    /// What an earlier process knew, without a token: that is not kept.
    pub(crate) fn remembered(identity: Identity) -> Self {
        Self { token: "".into(), identity }
    }
}
