//! Settings of the cache of auto-configuration in the database.

use yardarm_core::Secret;
use yardarm_core::settings::Reader;

use super::{EnvironmentSource, StoreConfig};

const NAME: &str = "launchdarkly.auto_config.cache_key";
const ENCRYPTION_KEY: &str = "launchdarkly.auto_config.cache_encryption_key";

/// The cache of auto-configuration in the database.
#[derive(Debug, Clone)]
pub struct ListCacheConfig {
    /// Key of its hash or partition.
    pub name: String,
    /// Text from which the key of the encryption is derived.
    pub secret: Secret,
}

impl ListCacheConfig {
    /// Reads the settings; without an encryption key, the auto-configuration key is used. `None` without a cache.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        name: Option<String>,
        encryption_key: Option<Secret>,
        auto_config_key: &Secret,
    ) -> Option<Self> {
        let name = name.map(|it| it.trim().to_owned());
        if name.as_ref().is_some_and(String::is_empty) {
            reader.reject(NAME, "must not be empty");
        }
        if name.is_none() && encryption_key.is_some() {
            reader.reject(ENCRYPTION_KEY, format!("has no effect without `{NAME}`"));
        }
        let secret = encryption_key.filter(|it| !it.expose().trim().is_empty());
        Some(Self { name: name?, secret: secret.unwrap_or_else(|| auto_config_key.clone()) })
    }
}

impl StoreConfig {
    /// Rejects a cache without a database that can hold it.
    pub(super) fn refuse_cache(&self, environments: &EnvironmentSource, reader: &mut Reader<'_>) {
        let EnvironmentSource::AutoConfig { cache: Some(_), .. } = environments else { return };
        if !self.database.as_ref().is_some_and(super::DatabaseConfig::has_item_sets) {
            let problem = "needs `launchdarkly.redis`, or `launchdarkly.dynamodb` with `table_name`";
            reader.reject(NAME, problem);
        }
    }
}
