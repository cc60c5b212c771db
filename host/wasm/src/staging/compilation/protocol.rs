//! What the host and the compiler process send to each other.
//!
//! The standard input of the compiler is the size of a [`Job`] in four bytes, the job as JSON, and the component. It stays
//! open: its end is the end of the host. The standard output is the code, and success the exit code 0. Otherwise, the
//! last line of the standard error is a [`Report`] as JSON.

use serde::{Deserialize, Serialize};

use super::Failure;
use super::limits::Limits;
use crate::runtime::engine::EngineKind;
use crate::vocabulary::CompileStop;

/// Exit code of a compiler that has written a [`Report`].
pub(super) const REPORTED: u8 = 1;
/// Maximum size of a job as JSON.
pub(super) const LARGEST_JOB: usize = 4 << 10;

/// A component to compile, and the limits for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    /// Size of the component in bytes.
    pub(super) size: usize,
    /// The engine that will run the code.
    pub(super) kind: EngineKind,
    /// Memory in bytes.
    pub(super) memory: u64,
    /// Processor time in seconds.
    pub(super) processor: u64,
    /// Time in seconds, after which the host ends the compiler.
    pub(super) time: u64,
    /// Whether it leaves idle priority soon: on a machine whose processors are all busy, idle threads never run.
    pub(super) is_urgent: bool,
}

/// Why a compiler has no code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Report {
    /// The component is invalid.
    Invalid(String),
    /// The compiler panicked at this place.
    Panicked(String),
    /// The compiler could not begin.
    Unavailable(String),
}

impl Job {
    pub(super) fn new(size: usize, kind: EngineKind, limits: &Limits, is_urgent: bool) -> Self {
        let Limits { memory, processor, time } = *limits;
        Self { size, kind, memory, processor, time, is_urgent }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        match report {
            Report::Invalid(text) => Self::Invalid(text),
            Report::Panicked(place) => {
                Self::Stopped(CompileStop::Crashed { how: format!("internal error (panic) at {place}") })
            }
            Report::Unavailable(text) => Self::Unavailable(text),
        }
    }
}
