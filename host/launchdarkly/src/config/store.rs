//! Settings of the database and of the features that need one.

use std::collections::BTreeMap;
use std::time::Duration;

use yardarm_core::settings::Reader;
use yardarm_store::RedisAddress;

use super::{EnvironmentConfig, EnvironmentSource};

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

/// Settings of Big Segments.
#[derive(Debug, Clone, Copy)]
pub struct BigSegmentsConfig {
    /// Age of the last synchronization above which `/status` calls them potentially stale.
    pub stale_threshold: Duration,
    /// Whether that makes the gateway degraded.
    pub stale_as_degraded: bool,
    /// First delay after a failed synchronization.
    pub retry_interval: Duration,
    /// Time between polls of upstream while its stream is quiet.
    pub poll_interval: Duration,
}

impl StoreConfig {
    /// Reads the settings.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
        const MOMENT: Duration = Duration::from_millis(10);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            redis: redis(reader),
            check_interval: reader.duration("launchdarkly.redis.check_interval", MOMENT..=DAY),
            poll_interval: reader.duration("launchdarkly.redis.poll_interval", MOMENT..=DAY),
            big_segments: BigSegmentsConfig {
                stale_threshold: reader.duration("launchdarkly.big_segments_stale_threshold", MOMENT..=DAY * 365),
                stale_as_degraded: reader.flag("launchdarkly.big_segments_stale_as_degraded"),
                retry_interval: reader.duration("launchdarkly.big_segments_retry_interval", MOMENT..=DAY),
                poll_interval: reader.duration("launchdarkly.big_segments_poll_interval", MOMENT..=DAY),
            },
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

fn redis(reader: &mut Reader<'_>) -> Option<RedisAddress> {
    const URL: &str = "launchdarkly.redis.url";
    let url = reader.secret(URL);
    let user = reader.optional_text("launchdarkly.redis.username");
    let password = reader.secret("launchdarkly.redis.password");
    let tls = reader.flag("launchdarkly.redis.tls");
    let Some(url) = url else {
        if reader.has_section("launchdarkly.redis") {
            reader.reject(URL, "is required where other settings of Redis are given");
        }
        return None;
    };
    match RedisAddress::parse(url.expose(), tls, user.as_deref(), password.as_ref().map(|it| it.expose())) {
        Ok(address) => Some(address),
        Err(error) => {
            reader.reject(URL, error.to_string());
            None
        }
    }
}
