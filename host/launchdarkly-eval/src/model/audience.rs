//! Which kind of SDK evaluates flags.

/// Who asks, which decides which flags are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Server-side SDKs: every flag.
    Server,
    /// Mobile SDKs: flags with `usingMobileKey`.
    Mobile,
    /// Browser SDKs: flags with `usingEnvironmentId`.
    Browser,
}
