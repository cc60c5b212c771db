//! The states of plugins and sets, and why files are not used.

use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::time::unix_ms;

use crate::vocabulary::LoadError;

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refusal {
    /// Stable code, such as `L06`.
    pub code: &'static str,
    /// Class, such as `capability-denied`.
    pub class: &'static str,
    /// Message with advice.
    pub text: String,
    /// Digest of the component file.
    pub sha256: Option<String>,
    /// Unix milliseconds since when it is not used.
    pub since_ms: u64,
}

/// The probation of a version that replaced another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProbationStatus {
    /// Milliseconds after which it has passed.
    pub remaining_ms: u64,
    /// Number of calls, of the hook with the fewest, after which it has passed earlier.
    pub remaining_calls: u64,
    /// The version that returns if this one is worse.
    pub previous_version: String,
    /// Number of that version.
    pub previous_generation: u64,
    /// Digest of its component file.
    pub previous_sha256: String,
}

/// A version that was rolled back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuarantinedStatus {
    /// Version that the plugin declared.
    pub version: String,
    /// Digest of its component file.
    pub sha256: String,
    /// The version that it was rolled back to.
    pub to: String,
    /// Why, with figures.
    pub reason: String,
}

/// State of a plugin's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// A version runs.
    Active,
    /// The first version is being staged.
    Staging,
    /// No version runs, and the files cannot be used.
    Refused,
    /// There is no binding file, and automatic binding is disabled.
    Unbound,
    /// The component waits for its binding file, or for the other files of its set.
    Waiting,
    /// There is no component file.
    Missing,
    /// It is retired, by a tombstone `NAME.retired` or by an operator; its files are ignored.
    Retired,
}

/// A file `NAME.set`, whose plugins are applied together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SetRow {
    /// File name without extension.
    pub file: String,
    /// State of the set.
    pub state: SetState,
    /// Unix milliseconds since when it is in this state.
    pub since_ms: u64,
    /// File names, without extension, of its plugins.
    pub plugins: Vec<String>,
    /// Why it is not applied.
    pub refused: Option<Refusal>,
    /// What it waits for.
    pub advice: Option<String>,
}

/// State of a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SetState {
    /// Not all of its files are there.
    #[default]
    Waiting,
    /// Its plugins are being staged.
    Staging,
    /// Its plugins are those that run.
    Applied,
    /// It cannot be read, or one of its plugins cannot be used.
    Refused,
}

impl RowState {
    /// Returns the word for the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Staging => "staging",
            Self::Refused => "refused",
            Self::Unbound => "unbound",
            Self::Waiting => "waiting",
            Self::Missing => "missing",
            Self::Retired => "retired",
        }
    }
}

impl SetState {
    /// Returns the word for the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Staging => "staging",
            Self::Applied => "applied",
            Self::Refused => "refused",
        }
    }
}

impl Refusal {
    /// Creates a refusal that begins now, with the digest of the component file if it was read.
    pub(crate) fn new(error: &LoadError, sha256: Option<[u8; 32]>) -> Self {
        Self {
            code: error.code(),
            class: error.class(),
            text: error.to_string(),
            sha256: sha256.map(hex::encode),
            since_ms: unix_ms(),
        }
    }
}
