//! The requests that differ between the kinds of keys, and the reasons why a round of the loop ends.

use std::future::Future;

use yardarm_core::InternalError;
use yardarm_core::status::ErrorKind;
use yardarm_vendor::upstream::{ConnectionError, Events};

use super::environment_set::EnvironmentSet;
use crate::upstream::RequestError;
use crate::upstream::message::Scope;

/// The requests that differ between the kinds of keys.
pub(super) trait SyncSource: Send + 'static {
    /// Whether tokens name what there is to download, so that a poll needs a new one.
    const POLLS_WITH_NEW_TOKEN: bool;

    /// Gets a new token.
    fn authenticate(
        &mut self,
        environments: &mut EnvironmentSet,
    ) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// Downloads everything and serves it.
    fn download(&mut self, environments: &mut EnvironmentSet) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// Opens the stream.
    fn open(&mut self) -> impl Future<Output = Result<Events, ConnectionError>> + Send;

    /// Applies a change of the environments and keys that a proxy key leads to. An error ends the round.
    fn rescope(
        &mut self,
        scope: Scope,
        environments: &mut EnvironmentSet,
    ) -> impl Future<Output = Result<(), RoundError>> + Send;
}

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The stream could not be opened, or has ended.
    #[error(transparent)]
    Stream(#[from] ConnectionError),
    /// A panic. The next round finds out what is missing.
    #[error("{0}; restarting")]
    Internal(InternalError),
}

impl RoundError {
    /// Returns the kind for the status of an environment, and whether it is a rejection, which does not heal by itself.
    pub(super) fn kind(&self) -> (ErrorKind, bool) {
        match self {
            Self::Request(error) => error.kind(),
            Self::Stream(error) => error.kind(),
            Self::Internal(_) => (ErrorKind::Unknown, false),
        }
    }
}
