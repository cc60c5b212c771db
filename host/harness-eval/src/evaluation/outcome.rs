//! The result of an evaluation.

/// The variation that a flag serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served<'a> {
    /// Identifier of the variation.
    pub identifier: &'a str,
    /// Its value as text, for flags of any kind.
    pub value: &'a str,
}

/// Why a flag serves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// There is no such flag.
    #[error("feature config not found")]
    UnknownFlag,
    /// The variation that its configuration names does not exist.
    #[error("variation not found: {0}")]
    UnknownVariation(String),
    /// Its configuration names no variation.
    #[error("error while evaluating flag: {0}")]
    NothingServed(String),
}
