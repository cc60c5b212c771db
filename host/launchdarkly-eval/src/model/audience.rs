//! Which kind of SDK evaluates flags.

/// The kind of SDK that receives results, which decides which flags are visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Server-side SDKs: every flag.
    Server,
    /// Mobile SDKs: flags with `usingMobileKey`.
    Mobile,
    /// Browser SDKs: flags with `usingEnvironmentId`.
    Browser,
}
