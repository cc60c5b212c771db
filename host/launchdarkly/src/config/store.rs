//! Settings of the database and of the features that need one.

use std::collections::BTreeMap;
use std::time::Duration;

use yardarm_core::settings::Reader;
use yardarm_core::{Secret, settings};
use yardarm_store::RedisAddress;

use super::{DAY, EnvironmentConfig, EnvironmentSource, MOMENT, YEAR};

/// Default prefix of keys, as in ld-relay and the SDKs.
const DEFAULT_PREFIX: &str = "launchdarkly";
/// Stands for the environment in prefixes of environments that are not configured one by one.
const CID: &str = "$CID";

/// Settings of the database and of the features that need one.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Address of Redis; `None` without a database.
    pub redis: Option<RedisAddress>,
    /// Time between checks whether the data is still in the database.
    pub check_interval: Duration,
    /// Time between reads while upstream cannot be reached.
    pub poll_interval: Duration,
    /// Settings of Big Segments.
    pub big_segments: BigSegmentsConfig,
}

settings! {
    /// Settings of Big Segments.
    #[derive(Debug, Clone, Copy)]
    pub struct BigSegmentsConfig in "launchdarkly" {
        /// Age of the last synchronization above which `/status` calls Big Segments potentially stale.
        pub stale_threshold at "big_segments_stale_threshold": Duration = "5m", in MOMENT..=YEAR,
        /// Whether `/status` is `degraded` when Big Segments are potentially stale.
        pub stale_as_degraded at "big_segments_stale_as_degraded": bool = "false",
        /// First delay before a failed synchronization of Big Segments is tried again; it grows to three times this
        /// value.
        pub retry_interval at "big_segments_retry_interval": Duration = "10s", in MOMENT..=DAY,
        /// How often Big Segments are polled while their stream is quiet.
        pub poll_interval at "big_segments_poll_interval": Duration = "60s", in MOMENT..=DAY,
    }
}

settings! {
    pub(super) struct StoreSettings in "launchdarkly.redis" {
        /// Redis server that data is written to, for server-side SDKs in daemon mode and for the next start:
        /// `redis://user:password@host:6379/0`, `rediss://` for TLS. No database unless set.
        url: Option<Secret>,
        /// Whether TLS is also used with `redis://`.
        tls: bool = "false",
        /// User name, in place of the one in the address.
        username: Option<String>,
        /// Password, in place of the one in the address.
        password: Option<Secret>,
        /// How often the database is checked for the data. If it is missing, it is written again.
        check_interval: Duration = "30s", in MOMENT..=DAY,
        /// How often the database is read while LaunchDarkly cannot be reached, for data that other gateways have
        /// written. Newer items are served; no item returns to an older version.
        poll_interval: Duration = "5s", in MOMENT..=DAY,
        /// Settings of Big Segments.
        big_segments: BigSegmentsConfig => BigSegmentsConfig::read_keys,
    }
}

impl StoreConfig {
    /// Reads the settings.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        let keys = StoreSettings::read_keys(reader);
        Self {
            redis: keys.address(reader),
            check_interval: keys.check_interval,
            poll_interval: keys.poll_interval,
            big_segments: keys.big_segments,
        }
    }

    /// Rejects prefixes that two environments share, because they would overwrite each other.
    pub(crate) fn refuse_shared_prefixes(&self, environments: &EnvironmentSource, reader: &mut Reader<'_>) {
        if self.redis.is_none() {
            return;
        }
        let (section, common) = match environments {
            EnvironmentSource::Configured(environments) => return refuse_shared(environments, reader),
            EnvironmentSource::AutoConfig { common, .. } => ("auto_config", common),
            EnvironmentSource::Offline { common, .. } => ("offline", common),
        };
        if !common.prefix.as_ref().is_some_and(|it| it.contains(CID)) {
            let key = format!("launchdarkly.{section}.datastore_prefix");
            reader.reject(&key, format!("is required with a database and must contain `{CID}`"));
        }
    }
}

fn refuse_shared(environments: &[EnvironmentConfig], reader: &mut Reader<'_>) {
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (index, environment) in reader.indices("launchdarkly.environments").into_iter().zip(environments) {
        let key = format!("launchdarkly.environments[{index}].prefix");
        if environment.prefix.is_none() && environments.len() > 1 {
            let problem = format!(
                "is required, because environment `{}` shares the database with other environments",
                environment.name
            );
            reader.reject(&key, problem);
            continue;
        }
        for filter in std::iter::once("").chain(environment.filters.iter().map(String::as_str)) {
            let prefix = database_prefix(environment, filter);
            if let Some(owner) = owners.get(&prefix) {
                reader.reject(&key, format!("environment `{owner}` uses `{prefix}` in the database already"));
            }
            owners.insert(prefix, &environment.name);
        }
    }
}

/// Prefix of the keys of an environment or of a filtered variant.
pub(crate) fn database_prefix(environment: &EnvironmentConfig, filter: &str) -> String {
    let prefix = environment.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
    if let (Some(_), Some(id)) = (&environment.identity, environment.credentials.env_id()) {
        let name = if filter.is_empty() { id.to_string() } else { format!("{id}.{filter}") };
        return prefix.replace(CID, &name);
    }
    if filter.is_empty() { prefix.to_owned() } else { format!("{prefix}/{filter}") }
}

impl StoreSettings {
    /// Returns the address of Redis; `None` without a database.
    fn address(&self, reader: &mut Reader<'_>) -> Option<RedisAddress> {
        const URL: &str = "launchdarkly.redis.url";
        let Some(url) = &self.url else {
            if reader.has_section("launchdarkly.redis") {
                reader.reject(URL, "is required where other settings of Redis are given");
            }
            return None;
        };
        let password = self.password.as_ref().map(|it| it.expose());
        match RedisAddress::parse(url.expose(), self.tls, self.username.as_deref(), password) {
            Ok(address) => Some(address),
            Err(error) => {
                reader.reject(URL, error.to_string());
                None
            }
        }
    }
}
