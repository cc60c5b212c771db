//! Settings of each database, of which one may be used.

use std::path::PathBuf;
use std::time::Duration;

use yardarm_core::settings::{Reader, Url};
use yardarm_core::{Secret, settings};
use yardarm_store::{ConsulAddress, InvalidConsulAddress, RedisAddress, RedisCertificates};

use super::super::{DAY, MOMENT};

const MINUTE: Duration = Duration::from_secs(60);

/// A database, with what all environments share.
#[derive(Debug, Clone)]
pub enum DatabaseConfig {
    /// Redis at this address.
    Redis(RedisAddress),
    /// Consul at this address.
    Consul(ConsulAddress),
    /// DynamoDB.
    #[cfg(feature = "dynamodb")]
    DynamoDb {
        /// Endpoint and region.
        address: yardarm_store::DynamoDbAddress,
        /// Table of the environments that name none.
        table: Option<String>,
    },
}

/// A database and how often it is read.
pub(super) struct Chosen {
    pub(super) database: DatabaseConfig,
    pub(super) check_interval: Duration,
    pub(super) poll_interval: Duration,
}

settings! {
    pub(in super::super) struct RedisSettings in "launchdarkly.redis" {
        /// Redis server that data is written to, for server-side SDKs in daemon mode and for the next start:
        /// `redis://user:password@host:6379/0`, `rediss://` for TLS. No Redis unless set. At most one database may be
        /// used.
        url: Option<Secret>,
        /// Whether TLS is also used with `redis://`.
        tls: bool = "false",
        /// User name, in place of the one in the address.
        username: Option<String>,
        /// Password, in place of the one in the address.
        password: Option<Secret>,
        /// Certificate authorities, in PEM, that are trusted in place of those of the system. Without TLS, files of
        /// certificates have no effect. They are read at the start.
        ca_file: Option<PathBuf>,
        /// Certificate that is presented to the server, in PEM.
        client_cert: Option<PathBuf>,
        /// Its private key, in PEM.
        client_key: Option<PathBuf>,
        /// Longest time for opening a connection, including TLS and the login.
        connect_timeout: Duration = "3s", in MOMENT..=MINUTE,
        /// Longest time for an operation on single keys. Operations on all data may take 30 s.
        read_timeout: Duration = "3s", in MOMENT..=MINUTE,
        /// How often the database is checked for the data. If it is missing, it is written again.
        check_interval: Duration = "30s", in MOMENT..=DAY,
        /// How often the database is read while LaunchDarkly cannot be reached, for data that other gateways have
        /// written. Newer items are served; no item returns to an older version.
        poll_interval: Duration = "5s", in MOMENT..=DAY,
    }
}

settings! {
    pub(in super::super) struct DynamoDbSettings in "launchdarkly.dynamodb" {
        /// DynamoDB table that data is written to, for server-side SDKs in daemon mode and for the next start. It must
        /// exist, with the partition key `namespace` and the sort key `key`, both strings. DynamoDB is used if any key
        /// of this section, or a table of an environment, is set; credentials come from the usual chain of AWS.
        table_name: Option<String>,
        /// Endpoint in place of that of AWS, such as a local instance: `http://localhost:8000`.
        url: Option<String> as Url,
        /// Region of the table. That of the environment variables of AWS, the profile or the machine unless set.
        region: Option<String>,
        /// How often the table is checked for the data. If it is missing, it is written again.
        check_interval: Duration = "30s", in MOMENT..=DAY,
        /// How often the table is read while LaunchDarkly cannot be reached, for data that other gateways have written.
        /// Newer items are served; no item returns to an older version.
        poll_interval: Duration = "5s", in MOMENT..=DAY,
    }
}

settings! {
    pub(in super::super) struct ConsulSettings in "launchdarkly.consul" {
        /// Consul agent that data is written to, for server-side SDKs in daemon mode and for the next start:
        /// `host:8500`, `https://host:8501` for TLS. No Consul unless set. Big Segments are not available with it.
        host: Option<String>,
        /// Token for Consul, if it checks tokens.
        token: Option<Secret>,
        /// File with the token, in place of `token`. Read at the start.
        token_file: Option<PathBuf>,
        /// How often Consul is checked for the data. If it is missing, it is written again.
        check_interval: Duration = "30s", in MOMENT..=DAY,
        /// How often Consul is read while LaunchDarkly cannot be reached, for data that other gateways have written.
        /// Newer items are served; no item returns to an older version.
        poll_interval: Duration = "5s", in MOMENT..=DAY,
    }
}

impl RedisSettings {
    /// Reads the settings; `None` without Redis.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Chosen> {
        const URL: &str = "launchdarkly.redis.url";
        let keys = Self::read_keys(reader);
        let Some(url) = &keys.url else {
            if reader.has_section("launchdarkly.redis") {
                reader.reject(URL, "is required where other settings of Redis are given");
            }
            return None;
        };
        let password = keys.password.as_ref().map(|it| it.expose());
        match RedisAddress::parse(url.expose(), keys.tls, keys.username.as_deref(), password) {
            Ok(address) => {
                let address = keys.with_certificates(address, reader);
                Some(Chosen {
                    database: DatabaseConfig::Redis(address.with_time_limits(keys.connect_timeout, keys.read_timeout)),
                    check_interval: keys.check_interval,
                    poll_interval: keys.poll_interval,
                })
            }
            Err(error) => {
                reader.reject(URL, error.to_string());
                None
            }
        }
    }

    /// Adds the certificates to an address. Without TLS, their files are not read.
    fn with_certificates(&self, address: RedisAddress, reader: &mut Reader<'_>) -> RedisAddress {
        const CERT: &str = "launchdarkly.redis.client_cert";
        const KEY: &str = "launchdarkly.redis.client_key";
        const CA: &str = "launchdarkly.redis.ca_file";
        match (&self.client_cert, &self.client_key) {
            (Some(_), None) => reader.reject(KEY, format!("is required with `{CERT}`")),
            (None, Some(_)) => reader.reject(CERT, format!("is required with `{KEY}`")),
            _ => (),
        }
        if !address.has_tls() {
            return address;
        }
        let mut read = |key: &str, path: &Option<PathBuf>| {
            let content = std::fs::read(path.as_ref()?);
            content.map_err(|error| reader.reject(key, format!("cannot be read: {error}"))).ok()
        };
        let authorities = read(CA, &self.ca_file);
        let client = read(CERT, &self.client_cert).zip(read(KEY, &self.client_key));
        let certificates = RedisCertificates { authorities, client };
        address.clone().with_certificates(certificates).unwrap_or_else(|error| {
            reader.reject(if self.client_cert.is_some() { CERT } else { CA }, error.to_string());
            address
        })
    }
}

impl ConsulSettings {
    /// Reads the settings; `None` without Consul. Reads the file of the token.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Chosen> {
        const HOST: &str = "launchdarkly.consul.host";
        const TOKEN: &str = "launchdarkly.consul.token";
        const TOKEN_FILE: &str = "launchdarkly.consul.token_file";
        let keys = Self::read_keys(reader);
        let Some(host) = &keys.host else {
            if reader.has_section("launchdarkly.consul") {
                reader.reject(HOST, "is required where other settings of Consul are given");
            }
            return None;
        };
        let token = match (keys.token, &keys.token_file) {
            (Some(_), Some(_)) => {
                reader.reject(TOKEN_FILE, format!("cannot be combined with `{TOKEN}`"));
                None
            }
            (token, None) => token,
            (None, Some(_)) => reader.secret_in_file(TOKEN_FILE),
        };
        match ConsulAddress::parse(host, token.as_ref().map(Secret::expose)) {
            Ok(address) => Some(Chosen {
                database: DatabaseConfig::Consul(address),
                check_interval: keys.check_interval,
                poll_interval: keys.poll_interval,
            }),
            Err(error) => {
                let key = match error {
                    InvalidConsulAddress::Address => HOST,
                    InvalidConsulAddress::Token if keys.token_file.is_some() => TOKEN_FILE,
                    InvalidConsulAddress::Token => TOKEN,
                };
                reader.reject(key, error.to_string());
                None
            }
        }
    }
}

impl DynamoDbSettings {
    /// Reads the settings; `None` without DynamoDB. `has_tables`: whether environments have tables of their own.
    #[cfg(feature = "dynamodb")]
    pub(super) fn read(reader: &mut Reader<'_>, has_tables: bool) -> Option<Chosen> {
        let keys = Self::read_keys(reader);
        let is_used = has_tables || reader.has_section("launchdarkly.dynamodb");
        is_used.then(|| Chosen {
            database: DatabaseConfig::DynamoDb {
                address: yardarm_store::DynamoDbAddress::new(keys.url.as_deref(), keys.region.as_deref()),
                table: keys.table_name,
            },
            check_interval: keys.check_interval,
            poll_interval: keys.poll_interval,
        })
    }

    /// Rejects the settings.
    #[cfg(not(feature = "dynamodb"))]
    pub(super) fn read(reader: &mut Reader<'_>, has_tables: bool) -> Option<Chosen> {
        let _ = Self::read_keys(reader);
        if has_tables || reader.has_section("launchdarkly.dynamodb") {
            let problem = "is not available, because the program was built without the feature `dynamodb`";
            reader.reject("launchdarkly.dynamodb", problem);
        }
        None
    }
}

impl DatabaseConfig {
    /// Name in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "Redis",
            Self::Consul(_) => "Consul",
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { .. } => "DynamoDB",
        }
    }

    /// The section of its settings.
    pub(super) fn section(&self) -> &'static str {
        match self {
            Self::Redis(_) => "launchdarkly.redis",
            Self::Consul(_) => "launchdarkly.consul",
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { .. } => "launchdarkly.dynamodb",
        }
    }

    /// Whether environments may be kept apart by tables.
    pub(super) fn has_tables(&self) -> bool {
        match self {
            Self::Redis(_) | Self::Consul(_) => false,
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { .. } => true,
        }
    }

    /// Whether it can hold sets of items.
    pub(in crate::config) fn has_item_sets(&self) -> bool {
        match self {
            Self::Redis(_) => true,
            Self::Consul(_) => false,
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { table, .. } => table.is_some(),
        }
    }

    /// The table of environments that name none.
    pub(super) fn table(&self) -> Option<&str> {
        match self {
            Self::Redis(_) | Self::Consul(_) => None,
            #[cfg(feature = "dynamodb")]
            Self::DynamoDb { table, .. } => table.as_deref(),
        }
    }
}
