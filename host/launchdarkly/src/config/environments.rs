//! Settings of environments, and the source of their list.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use yardarm_core::secret::is_sendable;
use yardarm_core::settings::Reader;
use yardarm_core::{Secret, choices, settings};

use super::list_cache::ListCacheConfig;
use super::{DAY, TENTH, YEAR};
use crate::identity::{Credentials, EnvironmentId, MobileKey, SdkKey, SdkKind, label};

const SECOND: Duration = Duration::from_secs(1);

/// Source of the list of environments.
#[derive(Debug, Clone)]
pub enum EnvironmentSource {
    /// The configuration.
    Configured(Vec<EnvironmentConfig>),
    /// LaunchDarkly, at run time.
    AutoConfig {
        /// The auto-configuration key.
        key: Secret,
        /// Settings that it does not contain.
        common: CommonConfig,
        /// The cache of the list in the database; `None` without one.
        cache: Option<ListCacheConfig>,
    },
    /// An archive on disk, which may be replaced at run time.
    Offline {
        /// The archive.
        file: PathBuf,
        /// Time between checks for a new archive.
        monitoring_interval: Duration,
        /// Settings that it does not contain.
        common: CommonConfig,
    },
}

/// Settings that are the same for all environments which are not configured one by one.
#[derive(Debug, Clone)]
pub struct CommonConfig {
    /// Origins that browsers may call from; empty means any.
    pub allowed_origins: Vec<String>,
    /// Request headers that browsers may send in addition to the usual ones.
    pub allowed_headers: Vec<String>,
    /// Prefix of keys in the database; `$CID` stands for the environment ID.
    pub prefix: Option<String>,
    /// Table in the database; `$CID` stands for the environment ID.
    pub table_name: Option<String>,
}

/// Settings of one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentConfig {
    /// Name in logs, metrics, status and plugin bindings: the configured one, or the environment ID.
    pub name: String,
    /// Names and keys in LaunchDarkly; `None` for environments from the configuration.
    pub identity: Option<Identity>,
    /// Accepted credentials.
    pub credentials: Credentials,
    /// Level of log lines about it.
    pub log_level: LogLevel,
    /// Whether browsers must prove their context with a hash.
    pub secure_mode: bool,
    /// How long PHP may cache polled flags.
    pub ttl: Option<Duration>,
    /// Payload filters, each of which is served as an environment of its own.
    pub filters: Vec<String>,
    /// Prefix of its keys in the database; LaunchDarkly's default unless set.
    pub prefix: Option<String>,
    /// Its table in the database; the common one unless set.
    pub table_name: Option<String>,
    /// Origins that browsers may call from; empty means any.
    pub allowed_origins: Vec<String>,
    /// Request headers that browsers may send in addition to the usual ones.
    pub allowed_headers: Vec<String>,
}

/// Level of log lines about an environment; `None` is that of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLevel(pub Option<LevelFilter>);

choices! {
    LogLevel as LogLevel {
        "inherit" => LogLevel(None),
        "error" => LogLevel(Some(LevelFilter::ERROR)),
        "warn" => LogLevel(Some(LevelFilter::WARN)),
        "info" => LogLevel(Some(LevelFilter::INFO)),
        "debug" => LogLevel(Some(LevelFilter::DEBUG)),
        "none" => LogLevel(Some(LevelFilter::OFF)),
    }
}

/// Keys and names of an environment and its project in LaunchDarkly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Key of the environment.
    pub env_key: String,
    /// Name of the environment.
    pub env_name: String,
    /// Key of the project.
    pub proj_key: String,
    /// Name of the project.
    pub proj_name: String,
}

settings! {
    pub(super) struct AutoConfigSettings in "launchdarkly.auto_config" {
        /// Auto-configuration key. With it LaunchDarkly sends the list of environments, and none may be configured
        /// here.
        key: Option<Secret>,
        /// Key prefix of an environment in the database; `$CID` stands for the environment ID, or for `ID.FILTER` with
        /// a payload filter. Required with a database, unless `datastore_table_name` contains `$CID`.
        datastore_prefix: Option<String>,
        /// DynamoDB table of an environment, in place of `launchdarkly.dynamodb.table_name`; `$CID` stands for the same
        /// as in the prefix.
        datastore_table_name: Option<String>,
        /// Key of a hash in Redis, or of a partition of the table in DynamoDB, where the list of environments is kept too,
        /// encrypted, as LaunchDarkly's relay does. A gateway or relay that starts while LaunchDarkly cannot be reached
        /// serves the environments of this list. None unless set.
        cache_key: Option<String>,
        /// Text from which the encryption key of that list is derived, the same for all that share it. The
        /// auto-configuration key unless set.
        cache_encryption_key: Option<Secret>,
        /// Origins that browsers may call from, for all environments. Any origin unless set.
        allowed_origins: Vec<String>,
        /// Request headers that browsers may send in addition to the usual ones, for all environments.
        allowed_headers: Vec<String>,
    }
}

settings! {
    pub(super) struct OfflineSettings in "launchdarkly.offline" {
        /// Archive that LaunchDarkly generated for offline use. With it nothing is ever sent to LaunchDarkly, and no
        /// environments may be configured here.
        file: Option<PathBuf>,
        /// How often the archive is checked for a replacement.
        monitoring_interval: Duration = "1s", in TENTH..=DAY,
        /// Key prefix of an environment in the database; `$CID` stands for the environment ID, or for `ID.FILTER` with
        /// a payload filter. Required with a database, unless `datastore_table_name` contains `$CID`.
        datastore_prefix: Option<String>,
        /// DynamoDB table of an environment, in place of `launchdarkly.dynamodb.table_name`; `$CID` stands for the same
        /// as in the prefix.
        datastore_table_name: Option<String>,
        /// Origins that browsers may call from, for all environments. Any origin unless set.
        allowed_origins: Vec<String>,
        /// Request headers that browsers may send in addition to the usual ones, for all environments.
        allowed_headers: Vec<String>,
    }
}

settings! {
    pub(super) struct EnvironmentSettings in "launchdarkly.environments[]" {
        /// Name in logs, metrics, status and plugin bindings. Required.
        name: Option<String>,
        /// Server-side SDK key. Required.
        sdk_key: Option<Secret>,
        /// Further keys that server-side SDKs may use, separated by commas: other keys of the environment, or generated ones of
        /// your own, with which `sdk_key` can be rotated without a change of any SDK. `sdk_key` is used upstream for all.
        sdk_key_aliases: Option<Secret>,
        /// Mobile key. Without it, mobile routes answer 401.
        mobile_key: Option<Secret>,
        /// Further keys that mobile SDKs may use, separated by commas. Needs `mobile_key`, which is used upstream for all.
        mobile_key_aliases: Option<Secret>,
        /// Client-side ID. Without it, browser routes answer 404.
        env_id: Option<String>,
        /// Level of log lines about this environment: `error`, `warn`, `info`, `debug` or `none`, or `inherit` for
        /// `log.level`.
        log_level: LogLevel = "inherit",
        /// Whether browsers must send the secure mode hash of their context.
        secure_mode: bool = "false",
        /// How long PHP may cache polled flags. None unless set.
        ttl: Option<Duration>, in SECOND..=YEAR,
        /// Keys of payload filters; each is served as an environment of its own.
        filters: Vec<String>,
        /// Key prefix of the environment in the database; `launchdarkly` unless set, and none with DynamoDB. A payload
        /// filter adds `/` and its key. Required if several environments share a database or, with DynamoDB, a table.
        prefix: Option<String>,
        /// DynamoDB table of the environment, in place of `launchdarkly.dynamodb.table_name`.
        table_name: Option<String>,
        /// Origins that browsers may call from. Any origin unless set.
        allowed_origins: Vec<String>,
        /// Request headers that browsers may send in addition to the usual ones.
        allowed_headers: Vec<String>,
    }
}

impl EnvironmentSource {
    /// Reads the source of the list of environments; `None` without any such setting.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let sections = ["launchdarkly.environments", "launchdarkly.auto_config", "launchdarkly.offline"];
        let [is_configured, is_automatic, is_offline] = sections.map(|section| reader.has_section(section));
        if is_automatic && is_offline {
            reader.reject("launchdarkly.offline.file", "cannot be combined with `launchdarkly.auto_config`");
        }
        if is_configured && (is_automatic || is_offline) {
            let other = if is_automatic { "launchdarkly.auto_config" } else { "launchdarkly.offline" };
            reader.reject("launchdarkly.environments", format!("cannot be combined with `{other}`, which lists them"));
        }
        if is_automatic {
            const KEY: &str = "launchdarkly.auto_config.key";
            let AutoConfigSettings {
                key,
                datastore_prefix,
                datastore_table_name,
                cache_key,
                cache_encryption_key,
                allowed_origins,
                allowed_headers,
            } = AutoConfigSettings::read_keys(reader);
            if key.is_none() {
                reader.reject(KEY, "is required with other keys of this section");
            }
            let key = key.unwrap_or_else(|| "".into());
            refuse_unsendable(reader, KEY, key.expose());
            let common = CommonConfig {
                allowed_origins,
                allowed_headers,
                prefix: datastore_prefix,
                table_name: datastore_table_name,
            };
            let cache = ListCacheConfig::read(reader, cache_key, cache_encryption_key, &key);
            return Some(Self::AutoConfig { key, common, cache });
        }
        if is_offline {
            let OfflineSettings {
                file,
                monitoring_interval,
                datastore_prefix,
                datastore_table_name,
                allowed_origins,
                allowed_headers,
            } = OfflineSettings::read_keys(reader);
            if file.is_none() {
                reader.reject("launchdarkly.offline.file", "is required with other keys of this section");
            }
            let common = CommonConfig {
                allowed_origins,
                allowed_headers,
                prefix: datastore_prefix,
                table_name: datastore_table_name,
            };
            return Some(Self::Offline { file: file.unwrap_or_default(), monitoring_interval, common });
        }
        is_configured.then(|| {
            let environments = reader.each("launchdarkly.environments", EnvironmentConfig::read);
            refuse_duplicates(&environments, reader);
            Self::Configured(environments)
        })
    }
}

impl EnvironmentConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let keys = EnvironmentSettings::read_keys(reader);
        let sdk_key = SdkKey::new(reader.require("sdk_key", keys.sdk_key));
        let mobile_key = keys.mobile_key.map(MobileKey::new);
        refuse_unsendable(reader, "sdk_key", sdk_key.expose());
        refuse_unsendable(reader, "mobile_key", mobile_key.as_ref().map_or("", |it| it.expose()));
        let sdk_aliases = aliases(reader, "sdk_key_aliases", keys.sdk_key_aliases.as_ref());
        let mobile_aliases = aliases(reader, "mobile_key_aliases", keys.mobile_key_aliases.as_ref());
        if mobile_key.is_none() && !mobile_aliases.is_empty() {
            reader.reject("mobile_key", "is required with `mobile_key_aliases`, because it is used upstream");
        }
        let credentials = Credentials::fixed(sdk_key, mobile_key, keys.env_id.map(EnvironmentId::new)).with_aliases(
            sdk_aliases.into_iter().map(SdkKey::new).collect(),
            mobile_aliases.into_iter().map(MobileKey::new).collect(),
        );
        Self {
            name: reader.require("name", keys.name),
            identity: None,
            credentials,
            log_level: keys.log_level,
            secure_mode: keys.secure_mode,
            ttl: keys.ttl,
            filters: keys.filters,
            prefix: keys.prefix,
            table_name: keys.table_name,
            allowed_origins: keys.allowed_origins,
            allowed_headers: keys.allowed_headers,
        }
    }

    /// The settings of an environment with this SDK key and nothing else.
    #[cfg(test)]
    pub(crate) fn for_tests(sdk_key: &str) -> Self {
        Self {
            name: "main".to_owned(),
            identity: None,
            credentials: Credentials::fixed(SdkKey::new(sdk_key.into()), None, None),
            log_level: LogLevel::default(),
            secure_mode: false,
            ttl: None,
            filters: Vec::new(),
            prefix: None,
            table_name: None,
            allowed_origins: Vec::new(),
            allowed_headers: Vec::new(),
        }
    }

    /// Display name: the names of project and environment, if they came from LaunchDarkly.
    #[must_use]
    pub fn display_name(&self, filter: &str) -> String {
        let filtered = |name: String, open: &str, close: &str| match filter {
            "" => name,
            filter => format!("{name}{open}{filter}{close}"),
        };
        match &self.identity {
            Some(it) => filtered(format!("{} {}", it.proj_name, it.env_name), " (", ")"),
            None => filtered(self.name.clone(), "/", ""),
        }
    }
}

fn refuse_duplicates(environments: &[EnvironmentConfig], reader: &mut Reader<'_>) {
    let (mut names, mut credentials) = (BTreeSet::new(), BTreeSet::new());
    for (index, environment) in reader.indices("launchdarkly.environments").into_iter().zip(environments) {
        let at = |field: &str| format!("launchdarkly.environments[{index}].{field}");
        // The label of a filtered variant consists of environment and filter.
        let filters: BTreeSet<_> = environment.filters.iter().map(String::as_str).filter(|it| !it.is_empty()).collect();
        for filter in std::iter::once("").chain(filters) {
            let label = label(&environment.name, filter);
            if !names.insert(label.to_string()) {
                reader.reject(&at("name"), format!("there is another environment named `{}`", label.name()));
            }
        }
        for (kind, credential) in environment.credentials.accepted() {
            // A mobile key must not be another environment's SDK key either; an ID is not a key.
            let is_id = kind == SdkKind::Browser;
            if !credential.is_empty() && !credentials.insert((is_id, credential)) {
                let (field, what) = match kind {
                    SdkKind::Server => ("sdk_key", "key"),
                    SdkKind::Mobile => ("mobile_key", "key"),
                    SdkKind::Browser => ("env_id", "ID"),
                };
                reader.reject(&at(field), format!("another environment has the same {what}"));
            }
        }
    }
}

/// Splits a list of keys.
fn aliases(reader: &mut Reader<'_>, path: &str, list: Option<&Secret>) -> Vec<Secret> {
    let keys = list.map_or("", |it| it.expose()).split(',').map(str::trim).filter(|it| !it.is_empty());
    let keys: Vec<_> = keys.map(Secret::new).collect();
    keys.iter().for_each(|key| refuse_unsendable(reader, path, key.expose()));
    keys
}

/// A key with such a character could not be sent, and HTTP libraries would print it in their errors.
fn refuse_unsendable(reader: &mut Reader<'_>, path: &str, key: &str) {
    if key.contains(['"', '\'']) {
        reader.reject(path, "contains quotes, which count as a part of the key here; leave them out");
    } else if !is_sendable(key) {
        reader.reject(path, "contains characters that no key has");
    }
}
