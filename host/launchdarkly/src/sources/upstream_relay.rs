//! Staleness that travels: where upstream is a relay, its `/status` says whether its own upstream is connected.
//!
//! LaunchDarkly's relay and this gateway have the same document. Without it, a gateway behind a gateway looks connected while
//! the flags are hours old.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use serde::Deserialize;
use tokio::time::sleep;
use yardarm_core::Supervised;
use yardarm_core::status::RelayedOutage;
use yardarm_core::time::unix_ms;
use yardarm_vendor::body::{self, BodyError};

use crate::config::Config;
use crate::environments::{Environments, LdEnvironment};
use crate::identity::mask;
use crate::upstream::HttpClients;

/// Largest status document that is read.
const MAX_DOCUMENT: usize = 8 << 20;

/// The task that reads the status of upstream.
pub(crate) struct RelayWatch {
    url: String,
    http: HttpClients,
    interval: Duration,
    environments: Environments,
    /// Whether it was logged that upstream has no such document.
    is_reported: bool,
}

/// What matters of a status document. Everything else in it is ignored.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RelayStatus {
    environments: BTreeMap<String, RelayEnvironment>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RelayEnvironment {
    #[serde(default)]
    env_id: String,
    #[serde(default)]
    sdk_key: String,
    #[serde(default)]
    sdk_keys: Vec<RelayKey>,
    connection_status: RelayConnection,
}

#[derive(Debug, Deserialize)]
struct RelayKey {
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RelayConnection {
    state: String,
    #[serde(default)]
    state_since: u64,
}

impl RelayStatus {
    /// Reads a document; `None` if it is not the status of a relay.
    pub(crate) fn read(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    /// The outage of an environment with one of these identities, if there is one.
    fn outage(&self, env_id: Option<&str>, masked_key: &str, filter: &str) -> Option<RelayedOutage> {
        let is_same = |it: &RelayEnvironment| {
            let has_key = it.sdk_key == masked_key || it.sdk_keys.iter().any(|it| it.value == masked_key);
            if it.env_id.is_empty() { has_key } else { env_id.map_or(has_key, |id| id == it.env_id) }
        };
        let named = self.environments.iter().filter(|(_, it)| is_same(it));
        let (_, found) = if filter.is_empty() {
            // The names of filtered variants are longer.
            named.min_by_key(|(name, _)| name.len())?
        } else {
            named.into_iter().find(|(name, _)| name.ends_with(&format!("/{filter}")))?
        };
        let connection = &found.connection_status;
        (connection.state != "VALID").then(|| RelayedOutage {
            since_ms: connection.state_since.min(unix_ms()),
            message: match &*connection.state {
                "INTERRUPTED" => "the relay that is upstream has lost its own upstream",
                "INITIALIZING" => "the relay that is upstream is not connected to its own upstream yet",
                _ => "the relay that is upstream gets no data from its own upstream",
            }
            .into(),
        })
    }
}

impl RelayWatch {
    /// `None` if the status of upstream is not wanted.
    pub(crate) fn new(config: &Config, http: &HttpClients, environments: Environments) -> Option<Self> {
        config.upstream_status_interval.map(|interval| Self {
            url: format!("{}/status", config.stream_uri),
            http: http.clone(),
            interval,
            environments,
            is_reported: false,
        })
    }

    /// Reads the status; `None` if upstream cannot be reached, `Some(None)` if it has no such document.
    async fn look(&self) -> Option<Option<RelayStatus>> {
        let response = self.http.requests.get(&self.url).send().await.ok()?;
        if response.status().is_server_error() {
            return None;
        }
        if !response.status().is_success() {
            return Some(None);
        }
        match body::collect(Body::from_stream(response.bytes_stream()), MAX_DOCUMENT, |_| true).await {
            Ok(document) => Some(RelayStatus::read(&document)),
            Err(BodyError::TooLarge) => Some(None),
            Err(_) => None,
        }
    }

    fn apply(&self, status: &RelayStatus) {
        for environment in self.environments.all() {
            environment.status.set_relayed_outage(outage(&environment, status));
        }
    }
}

fn outage(environment: &LdEnvironment, status: &RelayStatus) -> Option<RelayedOutage> {
    let config = environment.config();
    let env_id = config.credentials.env_id().map(|it| it.as_str());
    status.outage(env_id, &mask(config.credentials.sdk_key().expose()), &environment.filter)
}

impl Supervised for RelayWatch {
    /// Runs until dropped.
    async fn run(&mut self) {
        loop {
            match self.look().await {
                // The streams show that it cannot be reached.
                None => (),
                Some(Some(status)) => self.apply(&status),
                Some(None) => {
                    if !std::mem::replace(&mut self.is_reported, true) {
                        tracing::warn!(url = self.url, "upstream has no status document of a relay");
                    }
                    self.apply(&RelayStatus::default());
                }
            }
            sleep(self.interval).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str) -> RelayStatus {
        let document = format!(
            r#"{{"environments": {{
                "prod": {{"sdkKey": "sdk-****a", "envId": "id1", "status": "connected", "x": 1,
                    "connectionStatus": {{"state": "{state}", "stateSince": 7, "lastError": {{"kind": "X"}}}}}},
                "prod/app": {{"sdkKey": "sdk-****a", "envId": "id1",
                    "connectionStatus": {{"state": "VALID", "stateSince": 8}}}},
                "other": {{"sdkKeys": [{{"value": "sdk-****b"}}], "connectionStatus": {{"state": "OFF"}}}}
            }}, "status": "degraded"}}"#
        );
        RelayStatus::read(document.as_bytes()).expect("a status document")
    }

    #[test]
    fn an_environment_is_found_by_its_id_or_its_masked_key() {
        let (up, down) = (status("VALID"), status("INTERRUPTED"));
        let since = |status: &RelayStatus, id, key, filter| status.outage(id, key, filter).map(|it| it.since_ms);
        assert_eq!(since(&up, Some("id1"), "sdk-****z", ""), None);
        assert_eq!(since(&down, Some("id1"), "sdk-****z", ""), Some(7));
        assert_eq!(since(&down, None, "sdk-****a", ""), Some(7));
        assert_eq!(since(&down, Some("id2"), "sdk-****a", ""), None, "another environment");
        assert_eq!(since(&down, Some("id1"), "sdk-****a", "app"), None, "the variant is connected");
        assert_eq!(since(&down, Some("id1"), "sdk-****b", ""), Some(7));
        assert_eq!(since(&down, None, "sdk-****b", ""), Some(0));
        assert_eq!(since(&down, None, "sdk-****c", ""), None);
    }

    #[test]
    fn other_documents_are_ignored() {
        for document in ["", "{}", "[]", "<html>", r#"{"environments": []}"#, r#"{"environments": {"a": {}}}"#] {
            assert!(RelayStatus::read(document.as_bytes()).is_none(), "{document}");
        }
    }
}
