//! Databases in which a gateway persists its data, for other readers and for its next start.
//!
//! A [`Store`] is a small interface: collections of versioned records with a marker for completeness, and sets of group
//! memberships with a cursor. Each database is one file; the names of its keys are passed as a [`Layout`], so this
//! crate is independent of any vendor: [`Redis`], [`Consul`], and `DynamoDb` with the Cargo feature `dynamodb`.
//! [`RedisValues`] are counters and other small values that several gateways share, [`RedisTexts`] texts and streams of
//! texts in a layout of other programs, an [`ItemSet`] is a set of items with names. A [`FleetStore`] is what gateways share that divide their work.
#![forbid(unsafe_code)]

mod consul;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod fleet;
mod http;
mod item_set;
mod layout;
mod redis;
mod trouble;

pub use self::consul::{Consul, ConsulAddress, InvalidConsulAddress};
#[cfg(feature = "dynamodb")]
pub use self::dynamodb::{DynamoDb, DynamoDbAddress, DynamoDbItems};
pub use self::fleet::{
    Entry, FleetLog, FleetState, FleetStore, LeaseAction, LeaseRequest, LogEntry, Position, SourceState, Write, Written,
};
pub use self::item_set::ItemSet;
pub use self::layout::Layout;
pub use self::redis::{
    GroupMember, GroupMessage, InvalidAddress, InvalidCertificates, Redis, RedisAddress, RedisCertificates, RedisFleet,
    RedisItems, RedisTexts, RedisValues, StreamEntry, StreamFollower, StreamNews, TextChange, ValueError, ValueLimits,
    VersionedValue,
};
pub use self::trouble::{Failure, StoreError, Trouble};

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// The part of a database that belongs to one environment.
///
/// Every operation completes within seconds, if need be with an error. An operation that failed may still have been
/// executed.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns the location of the database, for display.
    fn place(&self) -> &Place;

    /// Whether [`Self::replace`] is one transaction. If not, readers see the records one after the other, in the order
    /// of the collections and records that are passed, and the marker last.
    fn is_atomic(&self) -> bool;

    /// Whether there are memberships, cursor and progress. If not, their operations fail.
    fn has_memberships(&self) -> bool;

    /// Replaces whole collections and sets the marker. Returns the records that were left out.
    async fn replace(&self, collections: &[Collection]) -> Result<Vec<TooLarge>, StoreError>;

    /// Writes a record unless there is one with the same or a newer version.
    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError>;

    /// Returns the keys and texts of a collection.
    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Returns whether the marker is set. Cheap, so it also serves to check whether the database is reachable.
    async fn is_complete(&self) -> Result<bool, StoreError>;

    /// Checks that collections could be replaced, without sending or changing any, and returns whether the marker is
    /// set. Costs one small transaction, however large the data is.
    async fn probe(&self, collections: &[&'static str]) -> Result<bool, StoreError>;

    /// Returns the groups of a subject.
    async fn membership(&self, subject: &str) -> Result<Membership, StoreError>;

    /// Returns the progress of the memberships.
    async fn progress(&self) -> Result<Progress, StoreError>;

    /// Records that the memberships were up to date at this time, in Unix milliseconds.
    async fn synchronized(&self, at_ms: u64) -> Result<(), StoreError>;

    /// Applies a patch if it follows the current cursor.
    async fn advance(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError>;
}

/// The location of a database, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Kind of database in lower case.
    pub database: &'static str,
    /// Its address, without a password. Empty for the usual address of a service.
    pub server: Arc<str>,
    /// Prefix of all its keys. May be empty.
    pub prefix: Arc<str>,
    /// Name of the table; empty for databases without tables.
    pub table: Arc<str>,
}

/// A text with a key and a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Key within the collection.
    pub key: Arc<str>,
    /// Version, the same as inside the text.
    pub version: i64,
    /// The text.
    pub text: Bytes,
}

/// All records of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Name of the kind.
    pub name: &'static str,
    /// The records.
    pub records: Vec<Record>,
}

/// The outcome of writing a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upserted {
    /// The record was newer and has been written.
    Written,
    /// The same or a newer version exists.
    Older,
    /// The database does not accept texts of this size. What it holds is unchanged.
    TooLarge,
}

/// A record that is larger than the database accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// Name of the collection.
    pub collection: &'static str,
    /// Key of the record.
    pub key: Arc<str>,
}

/// The groups that include or exclude a subject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Groups that include the subject.
    pub included: Vec<String>,
    /// Groups that exclude the subject.
    pub excluded: Vec<String>,
}

/// The progress of the memberships.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Version of the last patch that was applied.
    pub cursor: Option<String>,
    /// When they were last up to date, in Unix milliseconds.
    pub synchronized_on: Option<u64>,
}

/// A change of one group's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipPatch {
    /// The cursor that the patch follows.
    pub previous: String,
    /// The cursor after the patch.
    pub version: String,
    /// The group.
    pub group: String,
    /// Subjects that the group includes after the patch.
    pub include: Vec<String>,
    /// Subjects that the group no longer includes.
    pub forget_included: Vec<String>,
    /// Subjects that the group excludes after the patch.
    pub exclude: Vec<String>,
    /// Subjects that the group no longer excludes.
    pub forget_excluded: Vec<String>,
}

/// The outcome of applying a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advanced {
    /// The patch was applied.
    Applied,
    /// The patch does not follow the current cursor, or another writer interfered.
    Refused {
        /// The current cursor.
        cursor: Option<String>,
    },
}
