//! Fetches flags and segments, all at once or one by one (F014, F018, F021 to F027, F032, F035).

use super::client::HttpClients;
use super::request::{RequestError, identification, read_json};
use super::url;
use crate::data::items::{Domain, Item};
use crate::data::received::{Fetched, ReadList, Received, Unreadable, read_item};
use crate::identity::Session;

/// Fetches flags and segments of environments.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) http: HttpClients,
    pub(crate) base: String,
}

impl Fetcher {
    /// Fetches all flags and segments.
    pub(crate) async fn everything(&self, session: &Session) -> Result<Received, RequestError> {
        let (flags, segments) = futures_util::future::try_join(
            self.get(session, &["feature-configs"], &[], ReadList::from_json),
            self.get(session, &["target-segments"], &[("rules", "v2")], ReadList::from_json),
        )
        .await?;
        Ok(Received { flags: Some(flags), segments: Some(segments) })
    }

    /// Fetches one item.
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

/// Distinguishes JSON that is no item from a response that is no JSON at all. The latter is a failed request, which is worth
/// a retry.
fn item<T>(read: Result<T, Unreadable>, json: &str) -> Result<Result<T, Unreadable>, serde_json::Error> {
    match read {
        Err(unreadable) => serde_json::from_str::<serde::de::IgnoredAny>(json).map(|_| Err(unreadable)),
        Ok(item) => Ok(Ok(item)),
    }
}
