//! Databases that keep what a gateway knows, so that others can read it and the next process starts with it.
//!
//! A [`Store`] is a small interface: collections of versioned records with a marker for "complete", and sets that say
//! who is a member of what, with a cursor. Each database is one file; the names of its keys arrive as a [`Layout`], so
//! this crate contains no vendor's word. [`Redis`] is the one database so far. DynamoDB and Consul would be files
//! beside it.
#![forbid(unsafe_code)]

mod layout;
mod redis;
mod trouble;

pub use self::layout::Layout;
pub use self::redis::{InvalidAddress, Redis, RedisAddress};
pub use self::trouble::{RedisFailure, StoreError, Trouble};

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// A part of a database that belongs to one environment.
///
/// Every operation ends within seconds, with an error if need be. An operation that failed may still have happened.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Which database this is, for people.
    fn place(&self) -> &Place;

    /// Replaces whole collections and sets the marker, where possible at once for all readers.
    async fn replace(&self, collections: &[Collection]) -> Result<(), StoreError>;

    /// Writes a record if there is none with its key or only an older one.
    async fn upsert(&self, collection: &str, record: &Record) -> Result<Upserted, StoreError>;

    /// Everything in a collection: keys and texts.
    async fn read(&self, collection: &str) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Whether the marker is set. Cheap, so it also tells whether the database can be reached.
    async fn is_complete(&self) -> Result<bool, StoreError>;

    /// Checks that collections could be replaced, without sending or changing any, and returns whether the marker is
    /// set. Costs one small transaction however large the data is.
    async fn probe(&self, collections: &[&'static str]) -> Result<bool, StoreError>;

    /// What is known of a subject.
    async fn membership(&self, subject: &str) -> Result<Membership, StoreError>;

    /// How far the memberships are.
    async fn progress(&self) -> Result<Progress, StoreError>;

    /// Notes that the memberships were up to date at this time, in Unix milliseconds.
    async fn synchronized(&self, at_ms: u64) -> Result<(), StoreError>;

    /// Applies a patch if it follows what is there.
    async fn advance(&self, patch: &MembershipPatch) -> Result<Advanced, StoreError>;
}

/// A database as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Kind of database in lower case.
    pub database: &'static str,
    /// Its address, without a password.
    pub server: Arc<str>,
    /// What all its keys begin with.
    pub prefix: Arc<str>,
}

/// One text with a key and a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key within the collection.
    pub key: Arc<str>,
    /// Its version, the same as in the text.
    pub version: i64,
    /// The text.
    pub text: Bytes,
}

/// All records of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Name of the kind.
    pub name: &'static str,
    /// Its records.
    pub records: Vec<Record>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upserted {
    /// It was newer and is there now.
    Written,
    /// The same or a newer version was there already.
    Older,
}

/// The groups that a subject is in or kept out of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// Groups that include the subject.
    pub included: Vec<String>,
    /// Groups that exclude the subject.
    pub excluded: Vec<String>,
}

/// How far memberships are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Version of the last patch that was applied.
    pub cursor: Option<String>,
    /// When they were last known to be up to date, in Unix milliseconds.
    pub synchronized_on: Option<u64>,
}

/// A change of one group's members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembershipPatch {
    /// The cursor that it follows.
    pub previous: String,
    /// The cursor afterwards.
    pub version: String,
    /// The group.
    pub group: String,
    /// Subjects that the group includes from now on.
    pub include: Vec<String>,
    /// Subjects that the group includes no longer.
    pub forget_included: Vec<String>,
    /// Subjects that the group excludes from now on.
    pub exclude: Vec<String>,
    /// Subjects that the group excludes no longer.
    pub forget_excluded: Vec<String>,
}

/// What became of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advanced {
    /// It was applied.
    Applied,
    /// It does not follow what is there, or somebody else was at it.
    Refused {
        /// What is there.
        cursor: Option<String>,
    },
}
