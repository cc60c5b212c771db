//! Settings of the Harness side. The list of keys is their reference documentation.

pub mod compat;
mod source;

use std::time::Duration;

use yardarm_core::Secret;
use yardarm_core::settings::{Key, Kind, Reader};

pub use self::source::{AdminConfig, EnvironmentConfig, OfflineConfig, Source};
use self::source::{DAY, MOMENT};

/// Settings of the Harness side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Source of the environments.
    pub source: Source,
    /// Service that exchanges keys for tokens at the start, and registers targets.
    pub client_service: String,
    /// Service that flags are fetched and streamed from, with tokens of its own.
    pub sync_service: String,
    /// Service that metrics are posted to.
    pub metric_service: String,
    /// Secret that signs the tokens of SDKs; `None` derives a secret per environment from its key.
    pub auth_secret: Option<Secret>,
    /// Whether tokens of the vendor's relay, and secrets of any strength, are accepted.
    pub ff_proxy_tokens: bool,
    /// Whether SDKs need no token.
    pub bypass_auth: bool,
    /// Time between downloads of targets; `None` for never.
    pub target_poll_interval: Option<Duration>,
    /// Time between posts of metrics; `None` for never.
    pub metric_post_interval: Option<Duration>,
    /// Whether changes are streamed, or only polled.
    pub stream_enabled: bool,
    /// Time between polls while there is no stream.
    pub flag_poll_interval: Duration,
    /// Time between downloads of key hashes.
    pub key_refresh_interval: Duration,
    /// Time between heartbeats on streams of SDKs.
    pub heartbeat_interval: Duration,
    /// Silence after which the upstream stream counts as dead.
    pub read_timeout: Duration,
    /// First delay before a key that upstream goes on rejecting is retried.
    pub rejected_retry_interval: Duration,
    /// Largest post of metrics, in bytes.
    pub max_metrics_body: u64,
    /// Memory for targets that SDKs present, over all environments, in bytes.
    pub learnt_targets_size: u64,
    /// Whether targets are rejected that Harness itself rejects.
    pub validate_targets: bool,
    /// Whether segment rules with several clauses are sent to SDKs that support them.
    pub and_rules: bool,
    /// Whether targets that SDKs present are registered upstream.
    pub forward_targets: bool,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

/// All keys of the Harness side.
pub const KEYS: &[Key] = &[
    key(
        "harness.client_service",
        Kind::Url,
        "https://config.ff.harness.io/api/1.0",
        "Service for exchanging keys and registering targets.",
    ),
    key(
        "harness.sync_service",
        Kind::Url,
        "",
        "Service that flags are fetched and streamed from; that of `harness.client_service` unless set.",
    ),
    key(
        "harness.admin_service",
        Kind::Url,
        "https://app.harness.io/gateway/cf",
        "Service that lists key hashes and targets.",
    ),
    key(
        "harness.metric_service",
        Kind::Url,
        "https://events.ff.harness.io/api/1.0",
        "Service that metrics are posted to.",
    ),
    key("harness.account", Kind::Text, "", "Account identifier, for the admin service. Required with environments."),
    key(
        "harness.organization",
        Kind::Text,
        "",
        "Organisation identifier, for the admin service. Required with environments.",
    ),
    key(
        "harness.admin_token",
        Kind::Secret,
        "",
        "Service account token, for the admin service. Required with environments.",
    ),
    key(
        "harness.auth_secret",
        Kind::Secret,
        "",
        "Secret that signs the tokens of SDKs; 32 bytes or more, and the same for all gateways behind one balancer. \
         Unless set, each environment has a secret that is derived from the key that leads to it, which is the same \
         wherever this key is configured. In offline mode there is no such key, and a secret is generated and stored \
         in the data folder.",
    ),
    key(
        "harness.ff_proxy_tokens",
        Kind::Bool,
        "false",
        "Whether tokens of the vendor's relay that do not name a key are accepted if they are signed with \
         `harness.auth_secret`, so that SDKs keep their tokens after a migration, and whether secrets of the vendor's \
         relay are accepted, however weak. `yardarm ff-proxy` sets it.",
    ),
    key(
        "harness.bypass_auth",
        Kind::Bool,
        "false",
        "Whether SDKs may read without a token. Keys that they send are still checked.",
    ),
    key(
        "harness.target_poll_interval",
        Kind::Duration,
        "",
        "Time between downloads of targets, whose attributes are then used in evaluations. Never unless set; `0s` is \
         never, too.",
    ),
    key(
        "harness.metric_post_interval",
        Kind::Duration,
        "60s",
        "Time between posts of metrics. `0s` forwards none; posts of SDKs are still accepted.",
    ),
    key("harness.stream_enabled", Kind::Bool, "true", "Whether changes are streamed. If not, they are polled."),
    key("harness.flag_poll_interval", Kind::Duration, "60s", "Time between polls while there is no stream."),
    key(
        "harness.key_refresh_interval",
        Kind::Duration,
        "5m",
        "Time between downloads of key hashes. An unknown key causes a download at once, at a limited rate.",
    ),
    key(
        "harness.heartbeat_interval",
        Kind::Duration,
        "15s",
        "Time between heartbeats on streams. Keep it below 30 seconds: SDKs consider a connection with longer silence \
         dead.",
    ),
    key(
        "harness.read_timeout",
        Kind::Duration,
        "30s",
        "Silence after which the upstream stream is considered dead and opened again.",
    ),
    key(
        "harness.rejected_retry_interval",
        Kind::Duration,
        "5m",
        "First delay before a key that upstream keeps rejecting is tried again; it doubles up to twelve times this \
         value. Before that it is tried a few times at once, and for ten minutes if it was accepted before.",
    ),
    key("harness.max_metrics_body", Kind::Size, "5MiB", "Largest post of metrics. Larger ones are answered 413."),
    key(
        "harness.learnt_targets_size",
        Kind::Size,
        "64MiB",
        "Memory for targets that SDKs send, over all environments, each of which has an equal share. The least \
         recently used ones are dropped.",
    ),
    key(
        "harness.validate_targets",
        Kind::Bool,
        "false",
        "Whether targets are rejected whose identifier or name Harness itself rejects, as by version 2 of its relay. \
         If `false`, they are accepted, as by version 1, with a warning.",
    ),
    key(
        "harness.and_rules",
        Kind::Bool,
        "true",
        "Whether SDKs that request them are sent segment rules whose clauses must all match.",
    ),
    key("harness.forward_targets", Kind::Bool, "true", "Whether targets that SDKs send are registered upstream."),
    key(
        "harness.environments[].name",
        Kind::Text,
        "",
        "Name in logs, metrics and plugin bindings; Harness' own name unless set.",
    ),
    key("harness.environments[].api_key", Kind::Secret, "", "A server API key of the environment. Required."),
    key(
        "harness.proxy_key",
        Kind::Secret,
        "",
        "In place of environments: one key for any number of them, which are added and removed without a restart. All \
         requests are sent to `harness.client_service`.",
    ),
    key(
        "harness.offline.dir",
        Kind::Path,
        "",
        "In place of environments: folder with files of the vendor's offline mode, read again when they change. Nothing is \
         requested from the network.",
    ),
    key("harness.offline.monitoring_interval", Kind::Duration, "1s", "How often that folder is checked for changes."),
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
        self.forward_targets && !self.is_offline()
    }

    /// Returns whether nothing is requested from the network.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        matches!(self.source, Source::Offline(_))
    }

    /// Reads the section; `None` if no source of environments is configured, so that this side is not started.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let source = Source::read(reader)?;
        let auth_secret = reader.secret("harness.auth_secret");
        let ff_proxy_tokens = reader.flag("harness.ff_proxy_tokens");
        match auth_secret.as_ref().map(Secret::expose).filter(|_| !ff_proxy_tokens) {
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
        let client_service = reader.url("harness.client_service");
        let sync_service = reader.optional_url("harness.sync_service").unwrap_or_else(|| client_service.clone());
        Some(Self {
            source,
            client_service,
            sync_service,
            metric_service: reader.url("harness.metric_service"),
            auth_secret,
            ff_proxy_tokens,
            bypass_auth: reader.flag("harness.bypass_auth"),
            target_poll_interval: positive(
                reader.optional_duration("harness.target_poll_interval", Duration::ZERO..=DAY),
            ),
            metric_post_interval: positive(
                reader.optional_duration("harness.metric_post_interval", Duration::ZERO..=DAY),
            ),
            stream_enabled: reader.flag("harness.stream_enabled"),
            flag_poll_interval: reader.duration("harness.flag_poll_interval", MOMENT..=DAY),
            key_refresh_interval: reader.duration("harness.key_refresh_interval", MOMENT..=DAY),
            heartbeat_interval: reader.duration("harness.heartbeat_interval", MOMENT..=Duration::from_secs(29)),
            read_timeout: reader.duration("harness.read_timeout", MOMENT..=DAY),
            rejected_retry_interval: reader.duration("harness.rejected_retry_interval", MOMENT..=DAY),
            max_metrics_body: reader.size("harness.max_metrics_body").unwrap_or(5 << 20),
            learnt_targets_size: reader.size("harness.learnt_targets_size").unwrap_or(64 << 20),
            validate_targets: reader.flag("harness.validate_targets"),
            and_rules: reader.flag("harness.and_rules"),
            forward_targets: reader.flag("harness.forward_targets"),
        })
    }
}

fn positive(time: Option<Duration>) -> Option<Duration> {
    time.filter(|it| !it.is_zero())
}
