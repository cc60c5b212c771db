//! Names of keys. They are defined by the other readers of the database.

/// The names of keys, and a function that extracts the version of a text.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Exists once a complete set of collections has been written.
    pub marker: &'static str,
    /// Contains the version of the last membership patch.
    pub cursor: &'static str,
    /// Contains the time at which memberships were last up to date.
    pub synchronized_on: &'static str,
    /// Written and removed in one transaction, to check whether the database accepts writes.
    pub probe: &'static str,
    /// Modified by every membership patch, so that concurrent writers detect each other.
    pub lock: &'static str,
    /// Contains cursor and time in databases of items with attributes.
    pub metadata: &'static str,
    /// Contains the memberships of all subjects in databases of items with attributes.
    pub subjects: &'static str,
    /// Prefix of a subject's set of groups that include it.
    pub include: &'static str,
    /// Prefix of a subject's set of groups that exclude it.
    pub exclude: &'static str,
    /// Returns the version inside a text; `None` for a text in another format, which any record may replace.
    pub version_of: fn(&[u8]) -> Option<i64>,
}

/// Names of no vendor, for texts that are versions.
#[cfg(test)]
pub(crate) const TEST_LAYOUT: Layout = Layout {
    marker: "complete",
    cursor: "cursor",
    synchronized_on: "synchronized_on",
    probe: "probe",
    lock: "lock",
    metadata: "metadata",
    subjects: "subjects",
    include: "include",
    exclude: "exclude",
    version_of: |text| std::str::from_utf8(text).ok()?.trim().parse().ok(),
};
