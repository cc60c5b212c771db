//! The admin service: hashes of all keys of an environment, and its targets, page by page (sections 3.3 and 3.4).

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{HttpClients, RequestError, json, url};
use crate::config::AdminConfig;
use crate::credential::KeyHash;
use crate::environments::Identity;
use crate::model::Target;

const PAGE_SIZE: usize = 100;
/// Pages that are read at most: a service that never ends must not hold us for ever.
const MAX_PAGES: usize = 10_000;

/// Access to the admin service.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) http: HttpClients,
    pub(crate) settings: AdminConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyPage {
    #[serde(default)]
    api_keys: Option<Vec<ListedKey>>,
}

#[derive(Deserialize)]
struct ListedKey {
    /// The hash; what is called `apiKey` is masked and of no use.
    #[serde(default)]
    key: Option<String>,
}

#[derive(Deserialize)]
struct TargetPage {
    #[serde(default)]
    targets: Option<Vec<Target>>,
}

impl Admin {
    /// Hashes of all keys.
    pub(super) async fn keys(&self, identity: &Identity) -> Result<BTreeSet<KeyHash>, RequestError> {
        let pages = self.pages(identity, "apikey", |page: KeyPage| page.api_keys.unwrap_or_default());
        Ok(pages.await?.into_iter().filter_map(|it| KeyHash::listed(&it.key?)).collect())
    }

    /// All targets.
    pub(super) async fn targets(&self, identity: &Identity) -> Result<Vec<Target>, RequestError> {
        self.pages(identity, "targets", |page: TargetPage| page.targets.unwrap_or_default()).await
    }

    /// All pages up to the first without entries.
    async fn pages<P: DeserializeOwned + Send + 'static, T>(
        &self,
        identity: &Identity,
        what: &str,
        entries: impl Fn(P) -> Vec<T>,
    ) -> Result<Vec<T>, RequestError> {
        let mut all = Vec::new();
        for number in 0..MAX_PAGES {
            let query = [
                ("accountIdentifier", self.settings.account.as_str()),
                ("environmentIdentifier", identity.environment.as_str()),
                ("orgIdentifier", self.settings.organization.as_str()),
                ("pageNumber", &number.to_string()),
                ("pageSize", &PAGE_SIZE.to_string()),
                ("projectIdentifier", identity.project.as_str()),
            ];
            let request = self.http.requests.get(url(&self.settings.service, &["admin", what])).query(&query);
            let page = entries(json(request.header("x-api-key", self.settings.token.expose())).await?);
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        Ok(all)
    }
}
