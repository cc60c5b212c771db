//! Settings of the Redis database through which gateways share their data.

use std::time::Duration;

use yardarm_core::settings::Reader;
use yardarm_core::{Secret, settings};
use yardarm_store::RedisAddress;

use super::source::{MOMENT, Source};

/// The database through which gateways share their data.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Address and credentials.
    pub address: RedisAddress,
    /// Time between control events of a primary.
    pub check_interval: Duration,
    /// Posts of metrics that wait for the primary at most.
    pub metrics_length: usize,
}

settings! {
    pub(super) struct RedisSettings in "harness.redis" {
        /// Redis server through which gateways share their data, in the layout of the vendor's relay:
        /// `redis://user:password@host:6379/0`, `rediss://` for TLS. A gateway with environments or a proxy key writes
        /// what it serves there; one with `harness.read_replica` serves from there. Names of keys in it contain the proxy
        /// key. No database unless set.
        url: Option<Secret>,
        /// Whether TLS is also used with `redis://`.
        tls: bool = "false",
        /// User name, in place of the one in the address.
        username: Option<String>,
        /// Password, in place of the one in the address.
        password: Option<Secret>,
        /// Time between messages to read replicas that tell whether the upstream stream is open. With each, it is checked
        /// whether the data is still in the database.
        check_interval: Duration = "20s", in MOMENT..=Duration::from_secs(60),
        /// Posts of metrics of read replicas that wait in the database at most. The oldest are dropped.
        metrics_stream_length: usize = "1000", in 1..=1_000_000,
    }
}

impl RedisConfig {
    /// Reads the section; `None` without a database.
    pub(super) fn read(reader: &mut Reader<'_>, source: &Source) -> Option<Self> {
        const URL: &str = "harness.redis.url";
        let keys = RedisSettings::read_keys(reader);
        let Some(url) = &keys.url else {
            if matches!(source, Source::Replica) {
                reader.reject(URL, "is required with `harness.read_replica`");
            } else if reader.has_section("harness.redis") {
                reader.reject(URL, "is required where other settings of Redis are given");
            }
            return None;
        };
        if matches!(source, Source::Offline(_)) {
            reader.reject("harness.redis", "cannot be combined with `harness.offline`");
        }
        let password = keys.password.as_ref().map(Secret::expose);
        match RedisAddress::parse(url.expose(), keys.tls, keys.username.as_deref(), password) {
            Ok(address) => {
                Some(Self { address, check_interval: keys.check_interval, metrics_length: keys.metrics_stream_length })
            }
            Err(error) => {
                reader.reject(URL, error.to_string());
                None
            }
        }
    }
}
