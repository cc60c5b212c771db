//! What plugins use besides the input of a call: stored values, what their background task published, outbound requests
//! and secrets. Nothing here runs a guest.

pub(crate) mod http;
pub(crate) mod kv;
pub(crate) mod secrets;
pub(crate) mod snapshot;

use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use yardarm_core::{DataStore, Lifecycle};

use self::http::{HttpAccess, HttpClient};
use self::kv::{KvDatabaseStatus, KvSpace, KvSpaces, RedisSettings};
use self::secrets::{Redactor, Secrets};
use self::snapshot::Snapshot;
use crate::vocabulary::KvStorage;

/// Settings of the services.
#[derive(Debug, Clone, Default)]
pub struct ServiceSettings {
    /// Folder with a file per secret; none if absent.
    pub secrets_dir: Option<PathBuf>,
    /// Private networks that plugins may send requests to by host name.
    pub private_networks: Vec<IpNet>,
    /// Database of values with `kv = "redis"`.
    pub kv_redis: Option<RedisSettings>,
}

/// The services of a gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Services {
    kv: Arc<KvSpaces>,
    http: HttpClient,
    pub(crate) secrets: Secrets,
}

/// The services of one version of a plugin.
pub(crate) struct PluginServices {
    pub(crate) kv: Arc<KvSpace>,
    pub(crate) http: HttpAccess,
    pub(crate) snapshot: Snapshot,
    /// Removes the secrets of the plugin from its texts.
    pub(crate) redactor: Redactor,
    /// Wall-clock time in Unix milliseconds, if it is fixed.
    pub(crate) now_ms: Option<u64>,
    /// Whether calls that only warm the plugin up would have an effect on others.
    pub(crate) is_live: bool,
}

impl Services {
    /// Creates the services. Values of plugins on disk are in `store`.
    pub(crate) fn new(settings: &ServiceSettings, store: Option<DataStore>, lifecycle: &Lifecycle) -> Self {
        Self {
            kv: Arc::new(KvSpaces::new(store, settings.kv_redis.as_ref(), lifecycle)),
            http: HttpClient::new(settings.private_networks.clone()),
            secrets: Secrets::new(settings.secrets_dir.clone()),
        }
    }

    /// Creates the services of a check without a gateway: stored values are in memory only.
    pub(crate) fn for_checks(settings: &ServiceSettings) -> Self {
        Self {
            kv: Arc::new(KvSpaces::in_memory()),
            http: HttpClient::new(settings.private_networks.clone()),
            secrets: Secrets::new(settings.secrets_dir.clone()),
        }
    }

    /// Returns the stored values of a plugin. Blocks while they are read from the disk.
    ///
    /// # Errors
    /// The setting that is missing.
    pub(crate) fn open_kv(&self, plugin: &Arc<str>, storage: KvStorage) -> Result<Arc<KvSpace>, &'static str> {
        self.kv.of(plugin, storage)
    }

    /// Returns the status of the database of stored values, if there is one.
    pub(crate) fn kv_database(&self) -> Option<KvDatabaseStatus> {
        self.kv.database()
    }

    /// Returns the services of a new version of a plugin.
    pub(crate) fn of(&self, kv: Arc<KvSpace>, redactor: Redactor) -> PluginServices {
        PluginServices {
            kv,
            http: HttpAccess::new(self.http.clone()),
            snapshot: Snapshot::default(),
            redactor,
            now_ms: None,
            is_live: true,
        }
    }

    /// Returns the services of a version in shadow: values of its own, and only requests that change nothing.
    pub(crate) fn shadow(&self, redactor: Redactor) -> PluginServices {
        let http = HttpAccess::new(self.http.clone()).for_shadow();
        PluginServices { http, ..self.of(Arc::new(KvSpace::in_memory()), redactor) }
    }
}

impl Default for PluginServices {
    /// Services that reach nothing: values in memory, and no outbound requests.
    fn default() -> Self {
        Self {
            kv: Arc::new(KvSpace::in_memory()),
            http: HttpAccess::none(),
            snapshot: Snapshot::default(),
            redactor: Redactor::default(),
            now_ms: None,
            is_live: false,
        }
    }
}
