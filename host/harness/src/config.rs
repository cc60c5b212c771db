//! Settings of the Harness side. The documentation of their fields is the reference manual of this part.

pub mod compat;
mod redis;
mod source;

use std::time::Duration;

use yardarm_core::settings::{Key, Reader, Size, Url};
use yardarm_core::{Secret, keys, settings};
use yardarm_vendor::outbound_settings;
use yardarm_vendor::upstream::Outbound;

pub use self::redis::RedisConfig;
use self::redis::RedisSettings;
pub use self::source::{AdminConfig, EnvironmentConfig, OfflineConfig, Source};
use self::source::{AdminSettings, DAY, MOMENT, ProxyKeySettings, ReplicaSettings};

outbound_settings!("harness.outbound");

settings! {
    /// Settings of the Harness side.
    #[derive(Debug, Clone)]
    pub struct Config in "harness" with {
        /// Source of the environments.
        pub source: Source,
        /// Database through which gateways share their data; `None` without one.
        pub redis: Option<RedisConfig>,
    } {
        /// Service for exchanging keys and registering targets.
        pub client_service: String as Url = "https://config.ff.harness.io/api/1.0",
        /// Service that flags are fetched and streamed from; that of `harness.client_service` unless set.
        pub sync_service: String as Url,
        /// Service that metrics are posted to.
        pub metric_service: String as Url = "https://events.ff.harness.io/api/1.0",
        /// Secret that signs the tokens of SDKs; 32 bytes or more, and the same for all gateways behind one balancer.
        /// Unless set, each environment has a secret that is derived from the key that leads to it, which is the same
        /// wherever this key is configured. In offline mode there is no such key, and a secret is generated and stored
        /// in the data folder.
        pub auth_secret: Option<Secret>,
        /// Whether tokens of the vendor's relay that do not name a key are accepted if they are signed with
        /// `harness.auth_secret`, so that SDKs keep their tokens after a migration, and whether secrets of the vendor's
        /// relay are accepted, however weak. `yardarm ff-proxy` sets it.
        pub ff_proxy_tokens: bool = "false",
        /// Whether SDKs may read without a token. Keys that they send are still checked.
        pub bypass_auth: bool = "false",
        /// Time between downloads of targets, whose attributes are then used in evaluations. Never unless set; `0s` is
        /// never, too.
        pub target_poll_interval: Option<Duration>, in Duration::ZERO..=DAY,
        /// Time between posts of metrics. `0s` forwards none; posts of SDKs are still accepted.
        pub metric_post_interval: Option<Duration> = "60s", in Duration::ZERO..=DAY,
        /// Whether changes are streamed. If not, they are polled.
        pub stream_enabled: bool = "true",
        /// Time between polls while there is no stream.
        pub flag_poll_interval: Duration = "60s", in MOMENT..=DAY,
        /// Time between downloads of key hashes. An unknown key causes a download at once, at a limited rate.
        pub key_refresh_interval: Duration = "5m", in MOMENT..=DAY,
        /// Time between heartbeats on streams. Keep it below 30 seconds: SDKs consider a connection with longer silence
        /// dead.
        pub heartbeat_interval: Duration = "15s", in MOMENT..=Duration::from_secs(29),
        /// Silence after which the upstream stream is considered dead and opened again.
        pub read_timeout: Duration = "30s", in MOMENT..=DAY,
        /// First delay before a key that upstream keeps rejecting is tried again; it doubles up to twelve times this
        /// value. Before that it is tried a few times at once, and for ten minutes if it was accepted before.
        pub rejected_retry_interval: Duration = "5m", in MOMENT..=DAY,
        /// Largest post of metrics. Larger ones are answered 413.
        pub max_metrics_body: u64 as Size = "5MiB",
        /// Memory for targets that SDKs send, over all environments, each of which has an equal share. The least
        /// recently used ones are dropped.
        pub learnt_targets_size: u64 as Size = "64MiB",
        /// Whether targets are rejected whose identifier or name Harness itself rejects, as by version 2 of its relay.
        /// If `false`, they are accepted, as by version 1, with a warning.
        pub validate_targets: bool = "false",
        /// Whether SDKs that request them are sent segment rules whose clauses must all match.
        pub and_rules: bool = "true",
        /// Whether targets that SDKs send are registered upstream.
        pub forward_targets: bool = "true",
        /// Connections to the vendor's services.
        pub outbound: Outbound => OutboundSettings::read,
    }
}

/// All keys of the Harness side but the address of its listener.
pub const KEYS: &[Key] = keys![
    Config::KEYS,
    AdminSettings::KEYS,
    EnvironmentConfig::KEYS,
    ProxyKeySettings::KEYS,
    OfflineConfig::KEYS,
    ReplicaSettings::KEYS,
    RedisSettings::KEYS,
];

/// Minimum length of a secret in bytes, outside of the compatibility mode.
const MIN_SECRET: usize = 8;
/// Length in bytes from which on a secret cannot be guessed.
pub(crate) const STRONG_SECRET: usize = 32;

impl Config {
    /// Returns whether changes are streamed to SDKs. Offline they are not, because the folder is only polled.
    #[must_use]
    pub fn serves_streams(&self) -> bool {
        self.stream_enabled && !self.is_offline()
    }

    /// Returns whether targets that SDKs present are registered upstream.
    #[must_use]
    pub fn forwards_targets(&self) -> bool {
        self.forward_targets && !self.is_offline() && !self.is_replica()
    }

    /// Returns whether nothing is requested from the network.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(self.source, Source::Offline(_))
    }

    /// Returns whether all data comes from the database that a primary writes.
    #[must_use]
    pub fn is_replica(&self) -> bool {
        matches!(self.source, Source::Replica)
    }

    /// Reads the section; `None` if no source of environments is configured, so that this side is not started.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let source = Source::read(reader)?;
        let redis = RedisConfig::read(reader, &source);
        let mut config = Self::read_keys(reader, source, redis);
        config.check_auth_secret(reader);
        if config.sync_service.is_empty() {
            config.sync_service.clone_from(&config.client_service);
        }
        for interval in [&mut config.target_poll_interval, &mut config.metric_post_interval] {
            *interval = interval.filter(|it| !it.is_zero());
        }
        Some(config)
    }

    fn check_auth_secret(&self, reader: &mut Reader<'_>) {
        match self.auth_secret.as_ref().map(Secret::expose).filter(|_| !self.ff_proxy_tokens) {
            Some("secret") => {
                reader.reject(
                    "harness.auth_secret",
                    "is the well-known default of the vendor's relay; choose another, or leave it out",
                );
            }
            Some(secret) if secret.len() < MIN_SECRET => {
                let problem =
                    format!("has less than {MIN_SECRET} bytes; choose one of {STRONG_SECRET} or more, or leave it out");
                reader.reject("harness.auth_secret", problem);
            }
            _ => (),
        }
    }
}
