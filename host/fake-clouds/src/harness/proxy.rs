//! Proxy keys of version 2: one key for many environments, which are downloaded at once and share one stream.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::token::Holder;
use super::{Cloud, FakeHarness, Sent, answers, page};

/// Page length: the vendor never returns more environments in one page.
const PAGE: usize = 10;

pub(super) struct Proxy {
    environments: Vec<String>,
    pub(super) events: broadcast::Sender<Sent>,
}

impl FakeHarness {
    /// Adds a proxy key for environments that exist or are added later.
    pub fn adds_proxy<'a>(&self, proxy_key: &str, ids: impl IntoIterator<Item = &'a str>) {
        let environments = ids.into_iter().map(ToOwned::to_owned).collect();
        let proxy = Proxy { environments, events: broadcast::channel(4096).0 };
        self.lock().proxies.insert(proxy_key.to_owned(), proxy);
    }

    /// Adds an environment to a proxy key, and notifies its streams.
    pub fn adds_to_proxy(&self, proxy_key: &str, id: &str) {
        if let Some(proxy) = self.lock().proxies.get_mut(proxy_key) {
            proxy.environments.push(id.to_owned());
        }
        self.sends_event(proxy_key, &json!({"event": "environmentsAdded", "domain": "proxy", "environments": [id]}));
    }

    /// Removes an environment from a proxy key, and notifies its streams.
    pub fn removes_from_proxy(&self, proxy_key: &str, id: &str) {
        if let Some(proxy) = self.lock().proxies.get_mut(proxy_key) {
            proxy.environments.retain(|it| it != id);
        }
        self.sends_event(proxy_key, &json!({"event": "environmentsRemoved", "domain": "proxy", "environments": [id]}));
    }

    /// Deletes a proxy key, and notifies its streams.
    pub fn deletes_proxy(&self, proxy_key: &str) {
        self.sends_event(proxy_key, &json!({"event": "proxyKeyDeleted", "domain": "proxy"}));
        self.lock().proxies.remove(proxy_key);
    }

    /// Notifies every proxy key with this environment of a change of one of its API keys.
    pub(super) fn notifies_proxies(&self, id: &str, event: &str, hash: &str) {
        let event = json!({"event": event, "domain": "proxy", "environments": [id], "apiKey": hash});
        let proxies = self.lock().proxies_of(id);
        for proxy in proxies {
            self.sends_event(&proxy, &event);
        }
    }
}

impl Cloud {
    pub(super) fn proxies_of(&self, id: &str) -> Vec<String> {
        let has = |proxy: &Proxy| proxy.environments.iter().any(|it| it == id);
        self.proxies.iter().filter(|(_, proxy)| has(proxy)).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn authenticates_proxy(&mut self, body: &Value) -> Response {
        let Some(key) = body["proxyKey"].as_str().filter(|it| self.proxies.contains_key(*it)) else {
            return answers::error(StatusCode::UNAUTHORIZED, "unknown proxy key");
        };
        let claims = json!({"cluster_identifier": "2", "account": "account1"});
        let token = self.tokens.issue(key, Holder::Proxy(key.to_owned()), claims);
        answers::json(&json!({"authToken": token}))
    }

    /// Answers a request for configuration. `only` is the requested environment, `key` the proxy key in the query.
    pub(super) fn config(&self, holder: Option<&Holder>, key: &str, only: Option<&str>, index: usize) -> Response {
        let proxy = match holder {
            Some(Holder::Proxy(holder)) if holder == key => self.proxies.get(key),
            _ => None,
        };
        let Some(proxy) = proxy else { return answers::error(StatusCode::UNAUTHORIZED, "not your configuration") };
        let is_wanted = |id: &&String| only.is_none_or(|only| only == id.as_str());
        let environments: Vec<_> = proxy
            .environments
            .iter()
            .filter(is_wanted)
            .filter_map(|id| {
                let environment = self.environments.get(id)?;
                Some(json!({
                    "id": id, "apiKeys": environment.hashes(), "featureConfigs": environment.flags,
                    "segments": environment.segments,
                }))
            })
            .collect();
        let (environments, mut answer) = page(&environments, index, PAGE.min(self.page_limit));
        answer.insert("environments".to_owned(), environments.into());
        answers::json(&Value::Object(answer))
    }
}
