//! Flags and segments are fetched, all at once or one by one (sections 3.6 and 3.8).

use std::sync::Arc;

use serde_json::Value;

use super::{HttpClients, RequestError, Session, identification, json, url};
use crate::dataset::{Domain, Item, Items};
use crate::model::{Flag, Segment};

/// Fetches for one environment.
#[derive(Clone)]
pub(super) struct Fetcher {
    pub(super) http: HttpClients,
    pub(super) base: String,
}

impl Fetcher {
    /// Everything.
    pub(super) async fn everything(&self, session: &Session) -> Result<Items, RequestError> {
        let (flags, segments) = futures_util::future::try_join(
            self.get::<Vec<Value>>(session, &["feature-configs"], &[]),
            self.get::<Vec<Value>>(session, &["target-segments"], &[("rules", "v2")]),
        )
        .await?;
        let malformed = |error: crate::model::Malformed| RequestError::Malformed(error.to_string());
        let flags =
            flags.into_iter().map(|it| Flag::read(it).map(Arc::new)).collect::<Result<_, _>>().map_err(malformed)?;
        let segments = segments.into_iter().map(|it| Segment::read(it).map(Arc::new)).collect::<Result<_, _>>();
        Ok(Items { flags, segments: segments.map_err(malformed)? })
    }

    /// One item; `None` if there is none of this name any more.
    pub(super) async fn one(
        &self,
        session: &Session,
        domain: Domain,
        identifier: &str,
    ) -> Result<Option<Item>, RequestError> {
        let (what, query): (_, &[(&str, &str)]) = match domain {
            Domain::Flag => ("feature-configs", &[]),
            Domain::TargetSegment => ("target-segments", &[("rules", "v2")]),
        };
        let value: Value = match self.get(session, &[what, identifier], query).await {
            Err(RequestError::Status(status)) if status == http::StatusCode::NOT_FOUND => return Ok(None),
            other => other?,
        };
        let item = match domain {
            Domain::Flag => Flag::read(value).map(|it| Item::Flag(Arc::new(it))),
            Domain::TargetSegment => Segment::read(value).map(|it| Item::Segment(Arc::new(it))),
        };
        item.map(Some).map_err(|error| RequestError::Malformed(error.to_string()))
    }

    async fn get<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        session: &Session,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, RequestError> {
        let path = [&["client", "env", session.identity.id.as_str()], segments].concat();
        let request = self.http.requests.get(url(&self.base, &path)).headers(identification(session));
        json(request.query(&[("cluster", &session.identity.cluster)]).query(query).bearer_auth(session.token.expose()))
            .await
    }
}
