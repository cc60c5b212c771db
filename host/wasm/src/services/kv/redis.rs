//! The values of plugins in a Redis database, which several gateways share.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::Lifecycle;
use yardarm_store::{RedisAddress, RedisValues, StoreError, ValueError, ValueLimits};

use super::values::{MOST_BYTES, MOST_KEYS};
use super::{KvEntry, KvError};

/// The database of values with `kv = "redis"`.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Address and credentials.
    pub address: RedisAddress,
    /// Beginning of all keys.
    pub prefix: String,
}

/// The status of the database of stored values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KvDatabaseStatus {
    /// Address, without a password.
    pub server: String,
    /// Beginning of all keys.
    pub prefix: String,
    /// Whether it is connected; `None` if no plugin has needed it.
    pub connected: Option<bool>,
    /// Why it is not.
    pub error: Option<String>,
}

/// The database.
pub(super) struct KvDatabase(Arc<RedisValues>);

/// The values of one plugin.
pub(super) struct RedisSpace {
    plugin: Arc<str>,
    values: Arc<RedisValues>,
}

impl KvDatabase {
    /// Starts the task that connects when a plugin needs the database.
    pub(super) fn new(settings: &RedisSettings, lifecycle: &Lifecycle) -> Self {
        let limits = ValueLimits { keys: MOST_KEYS, bytes: MOST_BYTES };
        let values = Arc::new(RedisValues::new(&settings.address, &settings.prefix, limits));
        let task = Arc::clone(&values);
        lifecycle.supervise("database of plugin values", move || {
            let values = Arc::clone(&task);
            async move {
                let server = Arc::clone(&values.place().server);
                values.run(|change| report(&server, change)).await;
            }
        });
        Self(values)
    }

    /// Returns the values of a plugin.
    pub(super) fn open(&self, plugin: &Arc<str>) -> RedisSpace {
        self.0.connect_soon();
        RedisSpace { plugin: Arc::clone(plugin), values: Arc::clone(&self.0) }
    }

    pub(super) fn status(&self) -> KvDatabaseStatus {
        let (place, connection) = (self.0.place(), self.0.connection());
        KvDatabaseStatus {
            server: place.server.to_string(),
            prefix: place.prefix.to_string(),
            connected: connection.as_ref().map(Result::is_ok),
            error: connection.and_then(Result::err),
        }
    }
}

fn report(server: &str, change: Result<(), &StoreError>) {
    match change {
        Ok(()) => tracing::info!(server, "connected to the database of plugin values"),
        Err(error) => {
            tracing::warn!(server, %error, "the database of plugin values is not reachable, plugins get `unavailable`");
        }
    }
}

impl RedisSpace {
    pub(super) async fn get(&self, key: &str, limit: Duration) -> Result<Option<KvEntry>, KvError> {
        let found = self.values.get(&self.plugin, key, limit).await?;
        Ok(found.map(|found| KvEntry { value: found.value.into(), version: found.version }))
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<(), KvError> {
        Ok(self.values.set(&self.plugin, (key, value), ttl, limit).await?)
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        version: Option<u64>,
        (value, ttl): (&[u8], Option<Duration>),
        limit: Duration,
    ) -> Result<bool, KvError> {
        Ok(self.values.compare_and_set(&self.plugin, version, (key, value), ttl, limit).await?)
    }

    pub(super) async fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        limit: Duration,
    ) -> Result<i64, KvError> {
        Ok(self.values.increment(&self.plugin, (key, delta), ttl, limit).await?)
    }

    pub(super) async fn delete(&self, key: &str, limit: Duration) -> Result<bool, KvError> {
        Ok(self.values.delete(&self.plugin, key, limit).await?)
    }
}

impl From<ValueError> for KvError {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::NotANumber => Self::Invalid(error.to_string()),
            ValueError::Full => Self::Full,
            ValueError::Store(error) => Self::Unavailable(error.to_string()),
        }
    }
}
