//! A session with upstream: a token, and the identifiers that it carries.

use yardarm_core::Secret;

use super::names::Identity;

/// A token of upstream, and the identifiers that it carries.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) token: Secret,
    pub(crate) identity: Identity,
}

/// The target that is sent along when a key is exchanged: none, or an empty one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthTarget {
    None,
    Empty,
}

impl Session {
    /// Returns the session of a persisted environment, without a token: tokens are not persisted.
    pub(crate) fn remembered(identity: Identity) -> Self {
        Self { token: "".into(), identity }
    }
}
