//! Flags and segments are fetched, all at once or one by one (sections 3.6 and 3.8).

use super::client::HttpClients;
use super::request::{RequestError, identification, read_json, url};
use crate::data::items::{Domain, Item};
use crate::data::received::{Fetched, ReadList, Received, Unreadable, read_item};
use crate::identity::Session;

/// Fetches for one environment.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) http: HttpClients,
    pub(crate) base: String,
}

impl Fetcher {
    /// Everything, item by item. A list that is none is an error.
    pub(crate) async fn everything(&self, session: &Session) -> Result<Received, RequestError> {
        let (flags, segments) = futures_util::future::try_join(
            self.get(session, &["feature-configs"], &[], ReadList::from_json),
            self.get(session, &["target-segments"], &[("rules", "v2")], ReadList::from_json),
        )
        .await?;
        Ok(Received { flags: Some(flags), segments: Some(segments) })
    }

    /// One item.
    pub(crate) async fn one(
        &self,
        session: &Session,
        domain: Domain,
        identifier: &str,
    ) -> Result<Fetched, RequestError> {
        let named = |unreadable: Unreadable| Unreadable { identifier: Some(identifier.to_owned()), ..unreadable };
        let item = match domain {
            Domain::Flag => {
                let read = |json: &str| item(read_item(json), json);
                let read = self.get(session, &["feature-configs", identifier], &[], read).await;
                read.map(|it| it.map(Item::Flag))
            }
            Domain::TargetSegment => {
                let read = |json: &str| item(read_item(json), json);
                let read = self.get(session, &["target-segments", identifier], &[("rules", "v2")], read).await;
                read.map(|it| it.map(Item::Segment))
            }
        };
        match item {
            Ok(Ok(item)) => Ok(Fetched::Item(item)),
            Ok(Err(unreadable)) => Ok(Fetched::Unreadable(named(unreadable))),
            Err(RequestError::Status(http::StatusCode::NOT_FOUND)) => Ok(Fetched::Gone),
            Err(error) => Err(error),
        }
    }

    async fn get<T: Send + 'static>(
        &self,
        session: &Session,
        segments: &[&str],
        query: &[(&str, &str)],
        read: impl FnOnce(&str) -> Result<T, serde_json::Error> + Send + 'static,
    ) -> Result<T, RequestError> {
        let path = [&["client", "env", session.identity.id.as_str()], segments].concat();
        let request = self.http.requests.get(url(&self.base, &path)).headers(identification(session));
        let request = request.query(&[("cluster", &session.identity.cluster)]).query(query);
        read_json(request.bearer_auth(session.token.expose()), read).await
    }
}

/// JSON that is no item is the item's problem; an answer that is no JSON at all may be another one the next time.
fn item<T>(read: Result<T, Unreadable>, json: &str) -> Result<Result<T, Unreadable>, serde_json::Error> {
    match read {
        Err(unreadable) => serde_json::from_str::<serde::de::IgnoredAny>(json).map(|_| Err(unreadable)),
        Ok(item) => Ok(Ok(item)),
    }
}
