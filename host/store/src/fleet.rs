//! What the gateways of one fleet share through a database: leases, the newest content of each source, and a log of its
//! changes.
//!
//! A *source* is what one gateway, its leader, reads upstream for all of them, such as the data of an environment. Leases end
//! by the clock of the database, so the clocks of gateways do not matter. Content is written only by the holder of the
//! source's lease, which the database checks together with the write: a gateway that was suspended while another took over
//! cannot overwrite newer content.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::StoreError;

/// The shared part of a database.
///
/// Every operation completes within seconds, if need be with an error. An operation that failed may still have been
/// executed.
#[async_trait]
pub trait FleetStore: Send + Sync + 'static {
    /// Claims, renews and releases leases of `instance`, and returns the state of the fleet. A lease ends `lifetime` after
    /// it was last renewed, and so does the membership of an instance.
    async fn heartbeat(
        &self,
        instance: &str,
        lifetime: Duration,
        requests: &[LeaseRequest],
    ) -> Result<FleetState, StoreError>;

    /// Appends changes to the content of a source that is at `position`.
    async fn append(&self, write: &Write<'_>, position: &Position, changes: &[Entry]) -> Result<Written, StoreError>;

    /// Replaces the content of a source.
    async fn replace(&self, write: &Write<'_>, content: &[Entry]) -> Result<Written, StoreError>;

    /// Returns the content of a source and its position; `None` if there is none.
    async fn read(&self, source: &str) -> Result<Option<(Position, Vec<Entry>)>, StoreError>;

    /// Begins to follow the changes of all sources, from now on.
    async fn follow(&self) -> Result<Box<dyn FleetLog>, StoreError>;
}

/// The changes of all sources, in order.
#[async_trait]
pub trait FleetLog: Send + 'static {
    /// Waits for changes, for at most `wait`. Changes may be missing, which their positions show. Cancel-safe.
    ///
    /// # Errors
    /// If the connection is lost. The log must be followed anew then.
    async fn next(&mut self, wait: Duration) -> Result<Vec<LogEntry>, StoreError>;
}

/// A request for the lease of a source.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Name of the source.
    pub source: Arc<str>,
    /// What is done with the lease.
    pub action: LeaseAction,
    /// What this gateway reports about the source to the others while it holds the lease.
    pub note: Arc<str>,
}

/// What is done with a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAction {
    /// It is renewed, or claimed if no instance holds it.
    Claim,
    /// It is left alone unless this gateway holds it.
    Wait,
    /// It is given up.
    Release,
}

/// The state of a fleet at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetState {
    /// Number of instances.
    pub members: usize,
    /// The state of each source, in the order of the requests.
    pub sources: Vec<SourceState>,
}

/// The state of a source at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    /// The instance that holds the lease; `None` if none does.
    pub holder: Option<Arc<str>>,
    /// The note of the last holder. May be empty.
    pub note: Arc<str>,
    /// The position of the content; `None` without content.
    pub position: Option<Position>,
}

/// Who writes the content of which source.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// The writing instance, which must hold the lease.
    pub instance: &'a str,
    /// The position after the write.
    pub next: &'a Position,
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The content is at the next position.
    Yes,
    /// The writer does not hold the lease.
    NotLeader,
    /// The content is at another position than the changes follow.
    OtherPosition,
}

/// An entry of a source's content, or a change of one: a key with its text, `None` if it is removed.
pub type Entry = (Arc<str>, Option<Arc<str>>);

/// A change in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Name of the source.
    pub source: Arc<str>,
    /// The position after the change.
    pub position: Position,
    /// What has changed; `None` if the content has to be read.
    pub changes: Option<Vec<Entry>>,
}

/// A position in the history of a source. Positions of different generations cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    generation: Arc<str>,
    number: u64,
}

impl Position {
    /// The first position of a new generation, whose name must be unique.
    #[must_use]
    pub fn first(generation: impl Into<Arc<str>>) -> Self {
        Self { generation: generation.into(), number: 0 }
    }

    /// The position after one change.
    #[must_use]
    pub fn next(&self) -> Self {
        Self { generation: Arc::clone(&self.generation), number: self.number + 1 }
    }

    /// Returns whether this position is reached by changes after `other`, or is the same.
    #[must_use]
    pub fn is_at_or_after(&self, other: &Self) -> bool {
        self.generation == other.generation && self.number >= other.number
    }

    /// Parses the text of a position.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (generation, number) = text.rsplit_once(' ')?;
        let number = number.parse().ok()?;
        (!generation.is_empty()).then(|| Self { generation: generation.into(), number })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.generation, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_ordered_within_a_generation() {
        let first = Position::first("a b");
        let second = first.next();
        assert!(second.is_at_or_after(&first) && first.is_at_or_after(&first) && !first.is_at_or_after(&second));
        assert!(!Position::first("c").next().is_at_or_after(&first));
        assert_eq!(Position::parse(&second.to_string()), Some(second));
        for text in ["", "a", "a ", " 1", "a -1", "a 1x"] {
            assert_eq!(Position::parse(text), None, "{text:?}");
        }
    }
}
