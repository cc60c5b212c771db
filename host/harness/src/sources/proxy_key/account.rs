//! Requests with a proxy key (F113, F114).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use yardarm_core::Secret;
use yardarm_vendor::upstream::{ConnectionError, Events, NetworkError};

use super::page::{Listed, Page};
use crate::identity::{Identity, Session};
use crate::upstream::token::UpstreamToken;
use crate::upstream::{HttpClients, RequestError, read_json, stream, url};

/// Environments per page; the service returns no more.
const PAGE_SIZE: usize = 10;
/// Pages that are read at most, so that a service whose pages do not end cannot occupy the task forever.
const MAX_PAGES: u64 = 1000;
/// Time limit of all pages together.
const LISTING_TIMEOUT: Duration = Duration::from_secs(300);
/// Attempts to read a list that changes while it is read.
const READINGS: usize = 3;

/// A proxy key, and the service that it belongs to.
pub(super) struct Account {
    pub(super) http: HttpClients,
    pub(super) base: String,
    pub(super) key: Secret,
}

/// The environments that the key leads to.
pub(super) struct Listing {
    pub(super) environments: BTreeMap<String, Listed>,
    /// Whether all pages have the same counts.
    is_consistent: bool,
    /// Number of entries that cannot be read. Each may be any environment.
    pub(super) unreadable: usize,
}

impl Listing {
    /// Returns whether it is certain that there are no other environments.
    pub(super) fn is_complete(&self) -> bool {
        self.is_consistent && self.unreadable == 0
    }
}

impl Account {
    /// Exchanges the key. The session names no environment.
    pub(super) async fn session(&self) -> Result<Session, RequestError> {
        let body = json!({"proxyKey": self.key.expose()});
        let token = UpstreamToken::request(&self.http, url(&self.base, &["proxy", "auth"]), &body).await?;
        let identity = Identity {
            account: token.claims.text("account"),
            cluster: token.claims.cluster("cluster_identifier"),
            ..Identity::default()
        };
        Ok(Session { token: token.text, identity })
    }

    /// Returns all environments.
    pub(super) async fn everything(&self, session: &Session) -> Result<Listing, RequestError> {
        self.pages(session, None).await
    }

    /// Returns one environment; `None` if the key does not lead to it.
    pub(super) async fn one(&self, session: &Session, id: &str) -> Result<Option<Listed>, RequestError> {
        Ok(self.pages(session, Some(id)).await?.environments.remove(id))
    }

    /// Opens the stream of all environments.
    pub(super) async fn open(&self, session: &Session) -> Result<Events, ConnectionError> {
        stream::open(&self.http, &self.base, &["stream"], session, &self.key).await
    }

    async fn pages(&self, session: &Session, only: Option<&str>) -> Result<Listing, RequestError> {
        let reading = async {
            let mut listing = self.reading(session, only).await?;
            for _ in 1..READINGS {
                if listing.is_consistent {
                    break;
                }
                listing = self.reading(session, only).await?;
            }
            Ok(listing)
        };
        let too_slow = |_| Err(NetworkError::TimedOut("the configuration did not arrive").into());
        tokio::time::timeout(LISTING_TIMEOUT, reading).await.unwrap_or_else(too_slow)
    }

    async fn reading(&self, session: &Session, only: Option<&str>) -> Result<Listing, RequestError> {
        let malformed = |problem: &str| RequestError::Malformed(problem.to_owned());
        let mut environments = BTreeMap::new();
        let mut counts = None;
        let mut is_consistent = true;
        let mut unreadable = 0;
        for number in 0..MAX_PAGES {
            let page = self.page(session, only, number).await?;
            let (page_count, these) = (page.page_count, (page.item_count, page.page_count));
            // An environment that was removed meanwhile has moved the others, so one of them may be on neither page.
            is_consistent &= *counts.get_or_insert(these) == these;
            unreadable += page.unreadable;
            let (is_page_empty, item_count) = (page.unreadable == 0, page.item_count);
            let entries = page.entries(number).map_err(malformed)?;
            let is_page_empty = is_page_empty && entries.is_empty();
            let is_last = page_count.map_or(is_page_empty, |count| number.saturating_add(1) >= count);
            environments.extend(entries.into_iter().map(|it| (it.id.clone(), it)));
            if is_last {
                let count = (environments.len() + unreadable) as u64;
                is_consistent &= only.is_some() || item_count.is_none_or(|it| it <= count);
                return Ok(Listing { environments, is_consistent, unreadable });
            }
        }
        Err(malformed("the pages of the configuration do not end"))
    }

    async fn page(&self, session: &Session, only: Option<&str>, number: u64) -> Result<Page, RequestError> {
        let query = [
            ("pageNumber", number.to_string()),
            ("pageSize", PAGE_SIZE.to_string()),
            ("cluster", session.identity.cluster.clone()),
            // From here on the address contains a secret, so it must not be logged.
            ("key", self.key.expose().to_owned()),
        ];
        let request = self.http.requests.get(url(&self.base, &["proxy", "config"])).query(&query);
        let request = request.query(&only.map(|id| [("environment", id)]));
        read_json(request.bearer_auth(session.token.expose()), Page::read).await
    }
}
