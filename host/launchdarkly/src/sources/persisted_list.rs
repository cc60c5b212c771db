//! The list of environments on disk, so that a gateway that starts while LaunchDarkly is down can serve them.
//!
//! It holds every key of every environment, so the file is sealed with a key derived from the auto-configuration key
//! ([`SealedFile`]). With that key the list can be fetched anyway; without it the file cannot be read.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use yardarm_core::{Lifecycle, Secret};
use yardarm_vendor::persisted::sealed_file::{SealError, SealedFile};
use yardarm_vendor::persisted::snapshot_file::SnapshotFile;
use yardarm_vendor::persisted::snapshot_writer::SnapshotWriter;

use crate::config::{CommonConfig, EnvironmentConfig, Identity};
use crate::identity::{Accepted, Credentials, EnvironmentId, MobileKey, SdkKey};

/// Name of the file, and of the content in the derivation of its key.
const FILE: &str = "auto-configuration";
const LABEL: &str = "yardarm auto-configuration list, version 1";

/// The list from auto-configuration. Keys are plain texts here, so it is written to sealed files only.
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
    env_key: String,
    env_name: String,
    proj_key: String,
    proj_name: String,
    /// The anchor first.
    sdk_keys: Vec<KeptKey>,
    mobile_keys: Vec<KeptKey>,
    is_listed: bool,
    ttl_seconds: Option<u64>,
    secure_mode: bool,
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
struct KeptKey {
    value: String,
    name: Option<String>,
    expires_ms: Option<u64>,
}

/// The file of the list.
pub(crate) fn file(folder: &Path, auto_config_key: &Secret) -> Result<SealedFile, SealError> {
    SealedFile::new(SnapshotFile::new(folder, FILE), auto_config_key, LABEL)
}

/// Reads the list that an earlier process persisted; `None` without a usable list, which is logged. Blocks.
pub(crate) fn read(file: &SealedFile) -> Option<PersistedList> {
    match file.read() {
        Ok(persisted) => persisted,
        Err(error) => {
            let path = file.file().path().display();
            tracing::warn!(%error, file = %path, "the persisted list of environments cannot be used and is ignored");
            None
        }
    }
}

/// Starts the task that writes the newest list. `persisted` is the present content of the file.
pub(crate) fn persist(
    file: SealedFile,
    persisted: Option<PersistedList>,
    lifecycle: &Lifecycle,
) -> SnapshotWriter<Option<PersistedList>> {
    let plain = file.file().clone();
    // Text and numbers can always be encoded.
    let save = move |list: &Option<PersistedList>| list.as_ref().and_then(|it| file.seal(it).ok());
    SnapshotWriter::start(plain, lifecycle, persisted, save)
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
            secure_mode: self.secure_mode,
            ttl: self.ttl_seconds.map(Duration::from_secs),
            filters: Vec::new(),
            prefix: common.prefix.clone(),
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
