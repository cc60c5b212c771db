//! State of auto-configuration: applies messages and returns the environments to be served. Pure.
//!
//! Messages may be old or repeated, so each environment and each filter keeps its last version, also after its deletion
//! (U066 to U072).

mod cached;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use yardarm_launchdarkly_eval::model::normalize_json;
use yardarm_vendor::upstream::LogThrottle;

pub(super) use self::cached::CachedItem;
use super::persisted_list::{PersistedFilter, PersistedList, PersistedListEntry};
use super::representation::{Malformed, Object, Representation};
use super::variant::Variant;
use crate::config::{CommonConfig, EnvironmentConfig};
use crate::identity::KeyError;

/// Log lines about unknown events.
static UNEXPECTED: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// All known environments and filters.
pub(crate) struct AutoConfigState {
    common: CommonConfig,
    environments: BTreeMap<String, Versioned<EnvironmentConfig>>,
    filters: BTreeMap<String, Versioned<Filter>>,
    /// Whether this was persisted by an earlier process and the service has not sent its list yet. Then its list replaces
    /// all known versions and keys.
    is_restored: bool,
}

/// The last version of an environment or filter; only the version of deleted ones is kept.
struct Versioned<T> {
    version: i64,
    item: Option<T>,
}

/// A payload filter of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    project: String,
    key: Arc<str>,
    version: i64,
}

/// A message of the auto-configuration stream.
#[derive(Debug)]
pub(crate) enum AutoConfigMessage {
    /// The full list.
    Put {
        environments: Vec<(String, Representation)>,
        filters: Vec<(String, Filter)>,
        /// Environments and filters that cannot be parsed. Versioned ones stay as they are.
        refused: Vec<String>,
    },
    Environment(String, Box<Representation>),
    Filter(String, Filter),
    EnvironmentGone(String, i64),
    FilterGone(String, i64),
    /// The service requests a reconnect.
    Reconnect,
    /// A message for newer clients.
    Other,
}

/// A message that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AutoConfigError {
    #[error("malformed JSON ({0})")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The effect of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ApplyOutcome {
    /// Whether the list of environments is complete now.
    pub(crate) is_complete: bool,
    /// A contradictory set of keys; that environment stays as it was.
    pub(crate) contradiction: Option<KeyError>,
}

impl AutoConfigMessage {
    /// Parses an event of the stream.
    pub(crate) fn read(event: &str, data: &str) -> Result<Self, AutoConfigError> {
        match event {
            "put" | "patch" | "delete" => (),
            "reconnect" => return Ok(Self::Reconnect),
            _ => {
                if let Some(suppressed) = UNEXPECTED.next_line() {
                    let event = yardarm_vendor::upstream::shortened(event);
                    tracing::warn!(event, suppressed, "unexpected event in the auto-configuration stream");
                }
                return Ok(Self::Other);
            }
        }
        let value: Value = serde_json::from_str(&normalize_json(data))?;
        let all = Object::of(&value, "message")?;
        let path = all.text("path")?;
        let body = || all.get("data").unwrap_or(&Value::Null);
        Ok(match (event, split(path)) {
            ("put", _) if path == "/" => {
                let body = Object::of(body(), "data")?;
                let entries = |name| -> Result<Vec<_>, Malformed> {
                    Ok(body.object(name)?.map(|it| it.entries().collect()).unwrap_or_default())
                };
                // A message without a list must not remove every environment.
                if body.get("environments").is_none() {
                    return Err(Malformed::missing("environments").into());
                }
                let mut refused = Vec::new();
                let environments = readable_entries(entries("environments")?, Representation::read, &mut refused);
                let filters = readable_entries(entries("filters")?, Filter::read, &mut refused);
                Self::Put { environments, filters, refused }
            }
            ("patch", Some(("environments", id))) => {
                Self::Environment(id.to_owned(), Box::new(Representation::read(body())?))
            }
            ("patch", Some(("filters", id))) => Self::Filter(id.to_owned(), Filter::read(body())?),
            ("delete", Some(("environments", id))) => Self::EnvironmentGone(id.to_owned(), all.version()?),
            ("delete", Some(("filters", id))) => Self::FilterGone(id.to_owned(), all.version()?),
            _ => {
                tracing::debug!(event, path, "auto-configuration message for other clients");
                Self::Other
            }
        })
    }
}

/// Parses entries of a list. Entries that cannot be parsed are collected and do not affect others.
fn readable_entries<T>(
    entries: Vec<(&String, &Value)>,
    read: impl Fn(&Value) -> Result<T, Malformed>,
    refused: &mut Vec<String>,
) -> Vec<(String, T)> {
    let mut persisted = Vec::new();
    for (id, value) in entries {
        match read(value) {
            Ok(item) => persisted.push((id.clone(), item)),
            Err(error) => {
                tracing::error!(id, %error, "description cannot be used, keeping the known one");
                refused.push(id.clone());
            }
        }
    }
    persisted
}

/// Splits `/environments/ID` into its two parts.
fn split(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

impl Filter {
    pub(super) fn read(value: &Value) -> Result<Self, Malformed> {
        let all = Object::of(value, "filter")?;
        Ok(Self { project: all.text("projKey")?.to_owned(), key: all.text("key")?.into(), version: all.version()? })
    }
}

impl AutoConfigState {
    pub(crate) fn new(common: CommonConfig) -> Self {
        Self { common, environments: BTreeMap::new(), filters: BTreeMap::new(), is_restored: false }
    }

    /// Whether the list is that of an earlier process or of another gateway.
    pub(crate) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Takes the list of another gateway, without expired keys. What is newer here stays: this gateway may have been
    /// connected to upstream itself a moment ago. Only if the list `is_exact` is removed what it does not contain.
    pub(crate) fn follow(&mut self, list: PersistedList, is_exact: bool, now_ms: u64) {
        let known = (std::mem::take(&mut self.environments), std::mem::take(&mut self.filters));
        self.restore(list, now_ms);
        keep_newer(&mut self.environments, known.0, is_exact);
        keep_newer(&mut self.filters, known.1, is_exact);
    }

    /// Restores the list of an earlier process, without expired keys.
    pub(crate) fn restore(&mut self, persisted: PersistedList, now_ms: u64) {
        for environment in persisted.environments {
            let (id, version) = (environment.id.clone(), environment.version);
            if let Some(config) = environment.settings(&self.common) {
                self.environments.insert(id, Versioned { version, item: Some(config) });
            }
        }
        for PersistedFilter { id, version, project, key } in persisted.filters {
            let filter = Filter { project, key: key.into(), version };
            self.filters.insert(id, Versioned { version, item: Some(filter) });
        }
        self.is_restored = true;
        self.expire(now_ms);
    }

    /// The whole list, to be restored by a later process.
    pub(crate) fn to_persisted(&self) -> PersistedList {
        let environment = |(id, known): (&String, &Versioned<EnvironmentConfig>)| {
            Some(PersistedListEntry::of(id, known.version, known.item.as_ref()?))
        };
        let filter = |(id, known): (&String, &Versioned<Filter>)| {
            let filter = known.item.as_ref()?;
            let (project, key) = (filter.project.clone(), filter.key.to_string());
            Some(PersistedFilter { id: id.clone(), version: known.version, project, key })
        };
        PersistedList {
            environments: self.environments.iter().filter_map(environment).collect(),
            filters: self.filters.iter().filter_map(filter).collect(),
        }
    }

    /// Number of known environments, without filtered variants.
    pub(crate) fn len(&self) -> usize {
        self.environments.values().filter(|it| it.item.is_some()).count()
    }

    /// Applies a message.
    pub(crate) fn apply(&mut self, message: AutoConfigMessage, now_ms: u64) -> ApplyOutcome {
        let mut outcome = ApplyOutcome::default();
        match message {
            AutoConfigMessage::Put { environments, filters, refused } => {
                outcome.is_complete = true;
                tracing::info!(count = environments.len(), "received the list of environments");
                // Missing environments are removed completely, including their versions.
                self.environments.retain(|id, _| refused.contains(id) || environments.iter().any(|(it, _)| it == id));
                self.filters.retain(|id, _| refused.contains(id) || filters.iter().any(|(it, _)| it == id));
                let is_replaced = std::mem::take(&mut self.is_restored);
                if is_replaced {
                    self.filters.retain(|id, _| refused.contains(id));
                }
                for (id, representation) in environments {
                    outcome.contradiction =
                        self.upsert(id, &representation, now_ms, is_replaced).or(outcome.contradiction);
                }
                for (id, filter) in filters {
                    self.upsert_filter(id, filter);
                }
            }
            AutoConfigMessage::Environment(id, representation) => {
                outcome.contradiction = self.upsert(id, &representation, now_ms, false);
            }
            AutoConfigMessage::Filter(id, filter) => self.upsert_filter(id, filter),
            AutoConfigMessage::EnvironmentGone(id, version) => delete(&mut self.environments, id, version),
            AutoConfigMessage::FilterGone(id, version) => delete(&mut self.filters, id, version),
            AutoConfigMessage::Reconnect | AutoConfigMessage::Other => (),
        }
        self.expire(now_ms);
        outcome
    }

    /// Removes expired keys; returns whether there were any.
    pub(crate) fn expire(&mut self, now_ms: u64) -> bool {
        let mut has_expired = false;
        for config in self.environments.values_mut().filter_map(|it| it.item.as_mut()) {
            if let Some(credentials) = config.credentials.without_expired(now_ms) {
                config.credentials = credentials;
                has_expired = true;
            }
        }
        has_expired
    }

    /// All variants to be served: each environment, and each once more per filter of its project.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        let mut variants = Vec::new();
        for config in self.environments.values().filter_map(|it| it.item.as_ref()) {
            variants.push(Variant { config: config.clone(), filter: "".into() });
            let project = config.identity.as_ref().map_or("", |it| it.proj_key.as_str());
            for filter in self.filters.values().filter_map(|it| it.item.as_ref()) {
                if filter.project == project && !filter.key.is_empty() {
                    variants.push(Variant { config: config.clone(), filter: Arc::clone(&filter.key) });
                }
            }
        }
        variants
    }

    /// With `is_replacing`, the known version does not count, but stays if the new description cannot be used.
    fn upsert(
        &mut self,
        id: String,
        representation: &Representation,
        now_ms: u64,
        is_replacing: bool,
    ) -> Option<KeyError> {
        if representation.id != id {
            tracing::warn!(id, other = representation.id, "environment is listed under another ID and skipped");
            return None;
        }
        let known = self.environments.get(&id).filter(|_| !is_replacing);
        if known.is_some_and(|it| representation.version <= it.version) {
            tracing::debug!(id, "old message about an environment ignored");
            return None;
        }
        match representation.settings(known.and_then(|it| it.item.as_ref()), &self.common, now_ms) {
            Ok(config) => {
                self.environments.insert(id, Versioned { version: representation.version, item: Some(config) });
                None
            }
            Err(error) => {
                tracing::error!(id, %error, "description of the environment cannot be used");
                // Without a key a repetition would not help.
                (error != KeyError::Missing).then_some(error)
            }
        }
    }

    fn upsert_filter(&mut self, id: String, filter: Filter) {
        match self.filters.get_mut(&id) {
            Some(known) if filter.version <= known.version => (),
            // Filters never change in place.
            Some(Versioned { version, item: Some(_) }) => *version = filter.version,
            _ => {
                self.filters.insert(id, Versioned { version: filter.version, item: Some(filter) });
            }
        }
    }
}

/// Puts back what is newer in `known`, and unless `is_exact`, what `listed` does not contain.
fn keep_newer<T>(listed: &mut BTreeMap<String, Versioned<T>>, known: BTreeMap<String, Versioned<T>>, is_exact: bool) {
    for (id, known) in known {
        let is_kept = listed.get(&id).map_or(!is_exact, |it| it.version < known.version);
        if is_kept {
            listed.insert(id, known);
        }
    }
}

fn delete<T>(all: &mut BTreeMap<String, Versioned<T>>, id: String, version: i64) {
    if all.get(&id).is_none_or(|it| version > it.version) {
        all.insert(id, Versioned { version, item: None });
    }
}

#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod tests;
