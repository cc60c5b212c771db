//! Names of keys, which belong to whoever else reads the database.

/// How keys are called, and how a version is found in a text.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Exists once a complete set of collections was written.
    pub marker: &'static str,
    /// Holds the version of the last membership patch.
    pub cursor: &'static str,
    /// Holds the time at which memberships were last up to date.
    pub synchronized_on: &'static str,
    /// Is written and removed in one transaction, to find out whether the database takes writes.
    pub probe: &'static str,
    /// Is touched by every membership patch, so that two writers notice each other.
    pub lock: &'static str,
    /// Before a subject: the groups that include it.
    pub include: &'static str,
    /// Before a subject: the groups that exclude it.
    pub exclude: &'static str,
    /// The version inside a text; `None` for a text that is none of ours, which anything may replace.
    pub version_of: fn(&[u8]) -> Option<i64>,
}
