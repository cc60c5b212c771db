//! What is requested with an API key, which leads to one environment.

use std::sync::Arc;

use http::StatusCode;
use yardarm_core::Secret;
use yardarm_vendor::upstream::{ConnectionError, Events};

use super::environment_set::EnvironmentSet;
use super::sync_source::{RoundError, SyncSource};
use crate::environments::HarnessEnvironment;
use crate::identity::AuthTarget;
use crate::upstream::fetch::Fetcher;
use crate::upstream::message::Scope;
use crate::upstream::{RequestError, open_session, stream};

/// An API key and its environment.
pub(super) struct ApiKeySource {
    pub(super) environment: Arc<HarnessEnvironment>,
    pub(super) key: Secret,
    pub(super) fetcher: Fetcher,
}

impl ApiKeySource {
    async fn open_at(&self, listed_path: bool) -> Result<Events, ConnectionError> {
        let session = self.environment.session();
        let id = session.identity.id.as_str();
        let path: &[&str] = if listed_path { &["client", "env", id, "stream"] } else { &["stream"] };
        stream::open(&self.fetcher.http, &self.fetcher.base, path, &session, &self.key).await
    }
}

impl SyncSource for ApiKeySource {
    const POLLS_WITH_NEW_TOKEN: bool = false;

    async fn authenticate(&mut self, _: &mut EnvironmentSet) -> Result<(), RequestError> {
        let Fetcher { http, base } = &self.fetcher;
        let session = open_session(http, base, &self.key, AuthTarget::None).await?;
        if session.identity.id != self.environment.identity.id {
            return Err(RequestError::Malformed("the key belongs to another environment now".to_owned()));
        }
        self.environment.renew(session);
        Ok(())
    }

    async fn download(&mut self, environments: &mut EnvironmentSet) -> Result<(), RequestError> {
        let received = self.fetcher.everything(&self.environment.session()).await?;
        environments.set_incomplete(false);
        environments.put(&self.environment.identity.id, Ok(received)).await;
        Ok(())
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        match self.open_at(false).await {
            // The relay's documents name another path than its code uses. The path of the code is requested first each time,
            // because it may be missing for a moment only.
            Err(ConnectionError::Status(StatusCode::NOT_FOUND)) => self.open_at(true).await,
            other => other,
        }
    }

    /// An API key always leads to one environment.
    async fn rescope(&mut self, _: Scope, _: &mut EnvironmentSet) -> Result<(), RoundError> {
        tracing::debug!(environment = %self.environment.label, "event of a proxy key is ignored");
        Ok(())
    }
}
