//! Settings of a fleet. The documentation of the fields is the reference manual of this part.

use std::time::Duration;

use yardarm_core::settings::{Key, Reader};
use yardarm_core::{Secret, keys, settings};
use yardarm_store::RedisAddress;

/// Settings of a fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Address and credentials of the database.
    pub address: RedisAddress,
    /// Name of the fleet.
    pub name: String,
    /// How long a leader that cannot renew its leases keeps them.
    pub lease: Duration,
}

settings! {
    struct FleetSettings in "fleet" {
        /// Name of the fleet, for several fleets in one database. All its gateways have the same configuration.
        name: String = "default",
        /// How long a leader that has stopped, or cannot reach the database, is waited for; another gateway takes over then.
        /// Leases are renewed five times as often.
        lease: Duration = "2500ms", in Duration::from_millis(500)..=Duration::from_secs(60),
    }
}

settings! {
    struct RedisSettings in "fleet.redis" {
        /// Redis server through which the gateways of one fleet share what one of them receives from upstream, so that each
        /// environment has one upstream connection: `redis://user:password@host:6379/0`, `rediss://` for TLS. It holds flag
        /// data as plain text; the list of environments, which contains keys, is encrypted. No fleet unless set.
        url: Option<Secret>,
        /// Whether TLS is also used with `redis://`.
        tls: bool = "false",
        /// User name, in place of the one in the address.
        username: Option<String>,
        /// Password, in place of the one in the address.
        password: Option<Secret>,
    }
}

/// All keys of a fleet.
pub const KEYS: &[Key] = keys![FleetSettings::KEYS, RedisSettings::KEYS];

impl FleetConfig {
    /// Reads the section; `None` without a fleet.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const URL: &str = "fleet.redis.url";
        let (fleet, redis) = (FleetSettings::read_keys(reader), RedisSettings::read_keys(reader));
        let Some(url) = &redis.url else {
            if reader.has_section("fleet") {
                reader.reject(URL, "is required where other settings of a fleet are given");
            }
            return None;
        };
        if fleet.name.is_empty() || fleet.name.contains(['{', '}']) {
            reader.reject("fleet.name", "must be a text without braces");
        }
        let password = redis.password.as_ref().map(Secret::expose);
        match RedisAddress::parse(url.expose(), redis.tls, redis.username.as_deref(), password) {
            Ok(address) => Some(Self { address, name: fleet.name, lease: fleet.lease }),
            Err(error) => {
                reader.reject(URL, error.to_string());
                None
            }
        }
    }
}
