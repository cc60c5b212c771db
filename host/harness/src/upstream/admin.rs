//! The admin service: hashes of all keys of an environment, and its targets, page by page (F005 to F012).

use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_harness_eval::model::{Target, count};

use super::client::HttpClients;
use super::request::{RequestError, json};
use super::url;
use crate::config::AdminConfig;
use crate::identity::{Identity, ListedKeys};

const PAGE_SIZE: usize = 100;
/// Pages that are read at most, so that a service whose pages do not end cannot occupy the task forever.
const MAX_PAGES: u64 = 10_000;
/// Entries of a list that are read at most.
const MAX_ENTRIES: usize = 1_000_000;
/// Attempts to read a list that changes while it is read.
const READINGS: usize = 3;

/// Access to the admin service.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) http: HttpClients,
    pub(crate) settings: AdminConfig,
}

/// A page of either list. Its entries are read one by one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AdminPage {
    #[serde(default, alias = "targets")]
    api_keys: Option<Vec<Box<RawValue>>>,
    #[serde(default, deserialize_with = "count")]
    item_count: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    page_count: Option<u64>,
}

#[derive(Deserialize)]
struct ListedKey {
    /// The hash. The property `apiKey` is masked, so it is not read.
    #[serde(default)]
    key: Option<String>,
}

/// All entries of a list.
struct Entries {
    all: Vec<Box<RawValue>>,
    /// Whether there are as many entries as the service counts.
    is_complete: bool,
}

impl Admin {
    /// Returns hashes of all keys.
    pub(crate) async fn keys(&self, identity: &Identity) -> Result<ListedKeys, RequestError> {
        let entries = self.entries(identity, "apikey").await?;
        let hash = |entry: &RawValue| match serde_json::from_str::<ListedKey>(entry.get()) {
            // An entry without a hash is valid, but of no use.
            Ok(ListedKey { key: None }) => None,
            Ok(ListedKey { key }) => Some(key),
            Err(_) => Some(None),
        };
        let listed: ListedKeys = entries.all.iter().filter_map(|it| hash(it)).collect();
        if !listed.is_complete() {
            tracing::error!(
                environment = identity.environment,
                "the list of keys has entries that cannot be read, keys that are known stay"
            );
        }
        Ok(if entries.is_complete { listed } else { listed.incomplete() })
    }

    /// Returns all targets.
    pub(crate) async fn targets(&self, identity: &Identity) -> Result<Vec<Target>, RequestError> {
        let Entries { all, is_complete } = self.entries(identity, "targets").await?;
        if !is_complete {
            return Err(RequestError::Malformed("the list of targets changed while it was read".to_owned()));
        }
        let (targets, unreadable) = Target::read_all(&all.iter().map(|it| &**it).collect::<Vec<_>>());
        if unreadable > 0 {
            tracing::error!(environment = identity.environment, unreadable, "targets that cannot be read are skipped");
        }
        Ok(targets)
    }

    /// Reads all pages. A list that changes while it is read is read again.
    async fn entries(&self, identity: &Identity, what: &str) -> Result<Entries, RequestError> {
        let mut entries = self.reading(identity, what).await?;
        for _ in 1..READINGS {
            if entries.is_complete {
                break;
            }
            entries = self.reading(identity, what).await?;
        }
        if !entries.is_complete {
            tracing::warn!(
                environment = identity.environment,
                what,
                "a list has fewer entries than its service counts"
            );
        }
        Ok(entries)
    }

    /// Reads pages up to the first without entries. A later page that is missing or repeated leaves the list incomplete.
    async fn reading(&self, identity: &Identity, what: &str) -> Result<Entries, RequestError> {
        let malformed = |problem: String| RequestError::Malformed(problem);
        let mut all: Vec<Box<RawValue>> = Vec::new();
        // Index of the first entry of the previous page.
        let mut before = 0;
        for number in 0..MAX_PAGES {
            let page = self.page(identity, what, number).await?;
            let count = page.item_count;
            let is_behind_the_last =
                page.page_count.is_some_and(|it| number >= it) || count.is_some_and(|it| all.len() as u64 >= it);
            // A page without a list and without counts is the end only if the previous page was not full.
            let is_end = is_behind_the_last
                || number > 0 && page.page_count.is_none() && count.is_none() && all.len() - before < PAGE_SIZE;
            let entries = match page.api_keys {
                Some(entries) => entries,
                None if is_end => Vec::new(),
                None if number > 0 => return Ok(Entries { all, is_complete: false }),
                None => return Err(malformed(format!("page {number} of the list of {what} has no list"))),
            };
            if entries.is_empty() {
                let is_complete = count.is_none_or(|it| all.len() as u64 >= it);
                return Ok(Entries { all, is_complete });
            }
            let is_repeated =
                number > 0 && entries.iter().map(|it| it.get()).eq(all[before..].iter().map(|it| it.get()));
            if is_repeated && is_behind_the_last {
                return Ok(Entries { all, is_complete: true });
            }
            if is_repeated {
                return Ok(Entries { all, is_complete: false });
            }
            if all.len() + entries.len() > MAX_ENTRIES {
                return Err(malformed(format!("the pages of the list of {what} do not end")));
            }
            before = all.len();
            all.extend(entries);
        }
        Err(malformed(format!("the pages of the list of {what} do not end")))
    }

    async fn page(&self, identity: &Identity, what: &str, number: u64) -> Result<AdminPage, RequestError> {
        let query = [
            ("accountIdentifier", self.settings.account.as_str()),
            ("environmentIdentifier", identity.environment.as_str()),
            ("orgIdentifier", self.settings.organization.as_str()),
            ("pageNumber", &number.to_string()),
            ("pageSize", &PAGE_SIZE.to_string()),
            ("projectIdentifier", identity.project.as_str()),
        ];
        let request = self.http.requests.get(url(&self.settings.service, &["admin", what])).query(&query);
        json(request.header("x-api-key", self.settings.token.expose())).await
    }
}
