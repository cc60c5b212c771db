//! The list of environments in the store, so that a gateway that starts while LaunchDarkly is down can serve them.
//!
//! It holds every key of every environment, so it is sealed with a key derived from the auto-configuration key ([`Seal`]).
//! With that key the list can be fetched anyway; without it the list cannot be read.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use yardarm_core::Secret;
use yardarm_core::data_store::tables::{LISTS, Table};
use yardarm_core::data_store::{DataStore, Key, TrackedState};
use yardarm_vendor::persisted::seal::{Seal, SealError, Sealed};

use crate::config::{CommonConfig, EnvironmentConfig, Identity, LogLevel};
use crate::identity::{Accepted, Credentials, EnvironmentId, MobileKey, SdkKey, VENDOR};

const SEALED_LISTS: Table<Sealed> = LISTS.of();
/// Name of the content in the derivation of its key.
const LABEL: &str = "yardarm auto-configuration list, version 1";

/// The list from auto-configuration. Keys are plain texts here, so it is stored sealed only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PersistedList {
    pub(super) environments: Vec<PersistedListEntry>,
    pub(super) filters: Vec<PersistedFilter>,
}

/// One environment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PersistedListEntry {
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) env_key: String,
    pub(super) env_name: String,
    pub(super) proj_key: String,
    pub(super) proj_name: String,
    /// The anchor first.
    pub(super) sdk_keys: Vec<KeptKey>,
    pub(super) mobile_keys: Vec<KeptKey>,
    pub(super) is_listed: bool,
    pub(super) ttl_seconds: Option<u64>,
    pub(super) secure_mode: bool,
}

/// One payload filter.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PersistedFilter {
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) project: String,
    pub(super) key: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptKey {
    pub(super) value: String,
    pub(super) name: Option<String>,
    pub(super) expires_ms: Option<u64>,
}

/// The seal of the list.
pub(crate) fn seal(auto_config_key: &Secret) -> Result<Seal, SealError> {
    Seal::new(auto_config_key, LABEL)
}

fn key() -> Key {
    Key::of(&[VENDOR, "auto-configuration"])
}

/// Reads the list that an earlier process persisted; `None` without a usable list, which is logged. Blocks.
pub(crate) fn read(store: &DataStore, seal: &Seal) -> Option<PersistedList> {
    let ignored = |error: &dyn std::error::Error| {
        tracing::warn!(%error, "the persisted list of environments cannot be used and is ignored");
    };
    let sealed = store.get(SEALED_LISTS, &key()).inspect_err(|error| ignored(error)).ok()??;
    seal.open(sealed).inspect_err(|error| ignored(error)).ok()
}

/// Starts to persist the newest list. `persisted` is what the store holds.
pub(crate) fn persist(
    store: &DataStore,
    seal: Seal,
    persisted: Option<PersistedList>,
) -> TrackedState<Option<PersistedList>> {
    let is_known = persisted.is_some();
    store.track("list of environments", (persisted, is_known), move |_, list: &Option<PersistedList>, changes| {
        // Text and numbers can always be encoded.
        if let Some(sealed) = list.as_ref().and_then(|it| seal.seal(it).ok()) {
            changes.put(SEALED_LISTS, &key(), &sealed);
        }
    })
}

impl PersistedListEntry {
    pub(super) fn of(id: &str, version: i64, config: &EnvironmentConfig) -> Self {
        let identity = config.identity.clone().unwrap_or_default();
        let (sdk_keys, mobile_keys, is_listed) = config.credentials.all_keys();
        Self {
            id: id.to_owned(),
            version,
            env_key: identity.env_key,
            env_name: identity.env_name,
            proj_key: identity.proj_key,
            proj_name: identity.proj_name,
            sdk_keys: sdk_keys.iter().map(|it| KeptKey::of(it, it.key.expose())).collect(),
            mobile_keys: mobile_keys.iter().map(|it| KeptKey::of(it, it.key.expose())).collect(),
            is_listed,
            ttl_seconds: config.ttl.map(|it| it.as_secs()),
            secure_mode: config.secure_mode,
        }
    }

    /// Settings of the environment; `None` without an SDK key.
    pub(super) fn settings(self, common: &CommonConfig) -> Option<EnvironmentConfig> {
        let sdk_keys = self.sdk_keys.into_iter().map(|it| it.accepted(SdkKey::new)).collect();
        let mobile_keys = self.mobile_keys.into_iter().map(|it| it.accepted(MobileKey::new)).collect();
        let env_id = EnvironmentId::new(self.id.as_str());
        Some(EnvironmentConfig {
            name: self.id,
            identity: Some(Identity {
                env_key: self.env_key,
                env_name: self.env_name,
                proj_key: self.proj_key,
                proj_name: self.proj_name,
            }),
            credentials: Credentials::restored(env_id, sdk_keys, mobile_keys, self.is_listed)?,
            log_level: LogLevel::default(),
            secure_mode: self.secure_mode,
            ttl: self.ttl_seconds.map(Duration::from_secs),
            filters: Vec::new(),
            prefix: common.prefix.clone(),
            table_name: common.table_name.clone(),
            allowed_origins: common.allowed_origins.clone(),
            allowed_headers: common.allowed_headers.clone(),
        })
    }
}

impl KeptKey {
    fn of<K>(accepted: &Accepted<K>, value: &str) -> Self {
        let name = accepted.name.as_ref().map(|it| it.to_string());
        Self { value: value.to_owned(), name, expires_ms: accepted.expires_ms }
    }

    fn accepted<K>(self, make: fn(Secret) -> K) -> Accepted<K> {
        Accepted { key: make(Secret::new(self.value)), name: self.name.map(Into::into), expires_ms: self.expires_ms }
    }
}
