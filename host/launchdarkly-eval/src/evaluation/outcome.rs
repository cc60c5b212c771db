//! The result of an evaluation.

use super::memberships::BigSegmentsStatus;

/// The result of one flag for one context. Small, so that it is remembered and copied freely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// A valid index, or no value.
    pub(super) variation: Option<u32>,
    pub(super) reason: Reason,
    /// How many prerequisites were evaluated; they are the first of the list.
    pub(super) prerequisites: u32,
    /// The worst status among all Big Segments that were met.
    pub(super) status: Option<BigSegmentsStatus>,
}

/// Why a flag has its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Off,
    Target,
    /// `is_tracked` belongs to experiments of the older model.
    Rule {
        index: u32,
        in_experiment: bool,
        is_tracked: bool,
    },
    Fallthrough {
        in_experiment: bool,
        is_tracked: bool,
    },
    /// The prerequisite with this index was not met.
    PrerequisiteFailed {
        index: u32,
    },
    Malformed(Failure),
}

/// How far a malformed flag reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The flag itself has no value; flags that need it take it as not met.
    Local,
    /// Flags that need this one are malformed too.
    Fatal,
    /// As `Fatal`; the flag, or one it needs, needs itself.
    Cycle,
}

impl Outcome {
    /// Whether flags that need this one are malformed too.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self.reason, Reason::Malformed(Failure::Fatal | Failure::Cycle))
    }

    /// Whether the result belongs to an experiment, of the newer or the older model.
    pub(super) fn is_experiment(&self) -> bool {
        match self.reason {
            Reason::Rule { in_experiment, is_tracked, .. } | Reason::Fallthrough { in_experiment, is_tracked } => {
                in_experiment || is_tracked
            }
            Reason::Off | Reason::Target | Reason::PrerequisiteFailed { .. } | Reason::Malformed(_) => false,
        }
    }
}

impl Reason {
    /// Its `kind` in JSON.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Target => "TARGET_MATCH",
            Self::Rule { .. } => "RULE_MATCH",
            Self::Fallthrough { .. } => "FALLTHROUGH",
            Self::PrerequisiteFailed { .. } => "PREREQUISITE_FAILED",
            Self::Malformed(_) => "ERROR",
        }
    }
}
