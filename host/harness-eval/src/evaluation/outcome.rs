//! What an evaluation results in.

/// What a flag serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served<'a> {
    /// Identifier of the variation.
    pub identifier: &'a str,
    /// Its value as text, whatever the kind.
    pub value: &'a str,
}

/// Why a flag serves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// There is no such flag.
    #[error("feature config not found")]
    UnknownFlag,
    /// What is to be served is not among its variations.
    #[error("variation not found: {0}")]
    UnknownVariation(String),
    /// Nothing is to be served.
    #[error("error while evaluating flag: {0}")]
    NothingServed(String),
}
