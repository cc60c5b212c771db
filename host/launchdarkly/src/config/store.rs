//! Settings of the database and of the features that need one.

mod databases;

use std::collections::BTreeMap;
use std::time::Duration;

use yardarm_core::settings;
use yardarm_core::settings::Reader;

pub use self::databases::DatabaseConfig;
pub(super) use self::databases::{ConsulSettings, DynamoDbSettings, RedisSettings};
use super::{CommonConfig, DAY, EnvironmentConfig, EnvironmentSource, MOMENT, YEAR};

/// Default prefix of keys, as in ld-relay and the SDKs. DynamoDB has none.
const DEFAULT_PREFIX: &str = "launchdarkly";
/// Stands for the environment in prefixes and tables of environments that are not configured one by one.
const CID: &str = "$CID";

/// Settings of the database and of the features that need one.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database; `None` without one.
    pub database: Option<DatabaseConfig>,
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

/// The part of a database that belongs to an environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DatabasePart {
    /// Name of the table; empty for databases without tables.
    pub(crate) table: String,
    /// Prefix of keys.
    pub(crate) prefix: String,
}

impl StoreConfig {
    /// Reads the settings of all databases, of which one may be used.
    pub(crate) fn read(reader: &mut Reader<'_>, environments: &EnvironmentSource) -> Self {
        let all = [
            RedisSettings::read(reader),
            ConsulSettings::read(reader),
            DynamoDbSettings::read(reader, has_tables(environments)),
        ];
        let mut chosen: Vec<_> = all.into_iter().flatten().collect();
        if let [_, .., last] = &chosen[..] {
            let names: Vec<_> = chosen.iter().map(|it| it.database.name()).collect();
            // The section of a table is that of the environment.
            let problem = format!("multiple databases are enabled ({}); only one is allowed", names.join(", "));
            reader.reject(last.database.section(), problem);
        }
        let big_segments = BigSegmentsConfig::read_keys(reader);
        if chosen.is_empty() {
            // The intervals have no effect.
            return Self { database: None, check_interval: DAY, poll_interval: DAY, big_segments };
        }
        let databases::Chosen { database, check_interval, poll_interval } = chosen.swap_remove(0);
        Self { database: Some(database), check_interval, poll_interval, big_segments }
    }

    /// Rejects parts of the database that two environments share, because they would overwrite each other.
    pub(crate) fn refuse_shared_parts(&self, environments: &EnvironmentSource, reader: &mut Reader<'_>) {
        let Some(database) = &self.database else { return };
        let (section, common) = match environments {
            EnvironmentSource::Configured(environments) => {
                refuse_missing_tables(database, environments, reader);
                return refuse_shared(database, environments, reader);
            }
            EnvironmentSource::AutoConfig { common, .. } => ("auto_config", common),
            EnvironmentSource::Offline { common, .. } => ("offline", common),
        };
        let key = format!("launchdarkly.{section}.datastore_prefix");
        let has_placeholder = |text: &Option<String>| text.as_ref().is_some_and(|it| it.contains(CID));
        if database.has_tables() {
            if database.table().is_none() && common.table_name.is_none() {
                let key = format!("launchdarkly.{section}.datastore_table_name");
                reader.reject(&key, "is required where `launchdarkly.dynamodb.table_name` is not set");
            }
            if !has_placeholder(&common.prefix) && !has_placeholder(&common.table_name) {
                let problem = format!("is required with a database and must contain `{CID}`, unless the table does");
                reader.reject(&key, problem);
            }
        } else if !has_placeholder(&common.prefix) {
            reader.reject(&key, format!("is required with a database and must contain `{CID}`"));
        }
    }
}

impl DatabaseConfig {
    /// The part of the database that belongs to an environment or to a filtered variant.
    pub(crate) fn part(&self, environment: &EnvironmentConfig, filter: &str) -> DatabasePart {
        let default = if self.has_tables() { "" } else { DEFAULT_PREFIX };
        let prefix = environment.prefix.as_deref().unwrap_or(default);
        let table = environment.table_name.as_deref().filter(|_| self.has_tables()).or(self.table());
        let table = table.unwrap_or_default();
        if let (Some(_), Some(id)) = (&environment.identity, environment.credentials.env_id()) {
            let name = if filter.is_empty() { id.to_string() } else { format!("{id}.{filter}") };
            return DatabasePart { table: table.replace(CID, &name), prefix: prefix.replace(CID, &name) };
        }
        let prefix = if filter.is_empty() { prefix.to_owned() } else { format!("{prefix}/{filter}") };
        DatabasePart { table: table.to_owned(), prefix }
    }
}

/// Whether environments have tables of their own, which only DynamoDB has.
fn has_tables(environments: &EnvironmentSource) -> bool {
    match environments {
        EnvironmentSource::Configured(environments) => environments.iter().any(|it| it.table_name.is_some()),
        EnvironmentSource::AutoConfig { common, .. } | EnvironmentSource::Offline { common, .. } => {
            let CommonConfig { table_name, .. } = common;
            table_name.is_some()
        }
    }
}

fn refuse_missing_tables(database: &DatabaseConfig, environments: &[EnvironmentConfig], reader: &mut Reader<'_>) {
    let needs_table = |it: &EnvironmentConfig| it.table_name.is_none();
    if database.has_tables() && database.table().is_none() && environments.iter().any(needs_table) {
        let key = "launchdarkly.dynamodb.table_name";
        reader.reject(key, "is required, because an environment has no `table_name` of its own");
    }
}

fn refuse_shared(database: &DatabaseConfig, environments: &[EnvironmentConfig], reader: &mut Reader<'_>) {
    let mut owners: BTreeMap<DatabasePart, &str> = BTreeMap::new();
    for (index, environment) in reader.indices("launchdarkly.environments").into_iter().zip(environments) {
        let key = format!("launchdarkly.environments[{index}].prefix");
        let has_table = database.has_tables() && environment.table_name.is_some();
        if environment.prefix.is_none() && !has_table && environments.len() > 1 {
            let problem = format!(
                "is required, because environment `{}` shares the database with other environments",
                environment.name
            );
            reader.reject(&key, problem);
            continue;
        }
        for filter in std::iter::once("").chain(environment.filters.iter().map(String::as_str)) {
            let part = database.part(environment, filter);
            if let Some(owner) = owners.get(&part) {
                let what =
                    if database.has_tables() { format!("table `{}`", part.table) } else { "database".to_owned() };
                let problem = format!("environment `{owner}` uses `{}` in the {what} already", part.prefix);
                reader.reject(&key, problem);
            }
            owners.insert(part, &environment.name);
        }
    }
}
