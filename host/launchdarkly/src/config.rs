//! Settings of the LaunchDarkly side. The list of keys is the reference manual of this part.

use std::collections::BTreeSet;
use std::time::Duration;

use yardarm_core::settings::{Key, Kind, Reader};

use crate::credential::{EnvironmentId, MobileKey, SdkKey};

/// Settings of the LaunchDarkly side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where flags come from.
    pub stream_uri: String,
    /// Where SDKs poll; for now only the default of the client-side base.
    pub base_uri: String,
    /// Where goals come from.
    pub client_side_base_uri: String,
    /// Where events go.
    pub events_uri: String,
    /// Whether events are forwarded at all.
    pub send_events: bool,
    /// Time between posts of events.
    pub events_flush_interval: Duration,
    /// Events per queue between two posts.
    pub events_capacity: usize,
    /// Largest decompressed event post, in bytes.
    pub events_max_payload: u64,
    /// Largest body of a `REPORT` request, in bytes.
    pub max_client_request_body: u64,
    /// Time between heartbeats on streams.
    pub heartbeat_interval: Duration,
    /// Longest life of a stream; `None` for no limit.
    pub max_client_connection_time: Option<Duration>,
    /// How long an environment without data answers "starting".
    pub init_timeout: Duration,
    /// How long an interruption lasts before an environment counts as disconnected.
    pub disconnected_status_time: Duration,
    /// Silence after which an upstream connection counts as dead.
    pub read_timeout: Duration,
    /// First delay before a rejected key is tried again.
    pub rejected_retry_interval: Duration,
    /// The environments.
    pub environments: Vec<EnvironmentConfig>,
}

/// Settings of one environment.
#[derive(Debug, Clone)]
pub struct EnvironmentConfig {
    /// Name in logs, metrics, status and plugin bindings.
    pub name: String,
    /// Server-side key, used upstream and accepted from server-side SDKs.
    pub sdk_key: SdkKey,
    /// Key of mobile SDKs.
    pub mobile_key: Option<MobileKey>,
    /// Identifier that browsers put into their URLs.
    pub env_id: Option<EnvironmentId>,
    /// Whether browsers must prove their context with a hash.
    pub secure_mode: bool,
    /// How long PHP may cache what it polled.
    pub ttl: Option<Duration>,
    /// Payload filters, each of which is served as an environment of its own.
    pub filters: Vec<String>,
    /// Origins that browsers may call from; empty means any.
    pub allowed_origins: Vec<String>,
    /// Request headers that browsers may send in addition to the usual ones.
    pub allowed_headers: Vec<String>,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

/// All keys of this part.
pub const KEYS: &[Key] = &[
    key(
        "launchdarkly.stream_uri",
        Kind::Url,
        "https://stream.launchdarkly.com",
        "Service that flags are streamed from.",
    ),
    key("launchdarkly.base_uri", Kind::Url, "https://sdk.launchdarkly.com", "Service that SDKs poll."),
    key(
        "launchdarkly.client_side_base_uri",
        Kind::Url,
        "https://clientsdk.launchdarkly.com",
        "Service that goals are fetched from. Follows `base_uri` when only that is set.",
    ),
    key("launchdarkly.events_uri", Kind::Url, "https://events.launchdarkly.com", "Service that events are posted to."),
    key(
        "launchdarkly.send_events",
        Kind::Bool,
        "false",
        "Whether events of SDKs are forwarded. When off, event posts are answered 503, as LaunchDarkly's relay does.",
    ),
    key("launchdarkly.events_flush_interval", Kind::Duration, "5s", "Time between posts of events."),
    key(
        "launchdarkly.events_capacity",
        Kind::Count,
        "1000",
        "Events per queue between two posts. What does not fit is dropped and counted.",
    ),
    key(
        "launchdarkly.events_max_payload",
        Kind::Size,
        "25MiB",
        "Largest event post after decompression. Larger ones are answered 400.",
    ),
    key(
        "launchdarkly.max_client_request_body",
        Kind::Size,
        "5MiB",
        "Largest body of a REPORT request. Larger ones are answered 413.",
    ),
    key(
        "launchdarkly.heartbeat_interval",
        Kind::Duration,
        "3m",
        "Time between heartbeats on streams. Keep it below five minutes: SDKs reconnect after that much silence.",
    ),
    key(
        "launchdarkly.max_client_connection_time",
        Kind::Duration,
        "",
        "Longest life of a stream; SDKs reconnect, which spreads them over gateways. No limit unless set.",
    ),
    key(
        "launchdarkly.init_timeout",
        Kind::Duration,
        "10s",
        "How long an environment without data answers 503 before streams are let in to wait.",
    ),
    key(
        "launchdarkly.disconnected_status_time",
        Kind::Duration,
        "1m",
        "How long an interruption may last before `/status` calls an environment disconnected.",
    ),
    key(
        "launchdarkly.read_timeout",
        Kind::Duration,
        "5m",
        "Silence after which the upstream connection is taken for dead and opened again.",
    ),
    key(
        "launchdarkly.rejected_retry_interval",
        Kind::Duration,
        "5m",
        "First delay before a key that upstream rejected is tried again; it doubles up to twelve times this value.",
    ),
    key(
        "launchdarkly.environments[].name",
        Kind::Text,
        "",
        "Name in logs, metrics, status and plugin bindings. Required.",
    ),
    key("launchdarkly.environments[].sdk_key", Kind::Secret, "", "Server-side SDK key. Required."),
    key("launchdarkly.environments[].mobile_key", Kind::Secret, "", "Mobile key. Without it mobile routes answer 401."),
    key("launchdarkly.environments[].env_id", Kind::Text, "", "Client-side ID. Without it browser routes answer 404."),
    key(
        "launchdarkly.environments[].secure_mode",
        Kind::Bool,
        "false",
        "Whether browsers must send the secure mode hash of their context.",
    ),
    key("launchdarkly.environments[].ttl", Kind::Duration, "", "How long PHP may cache polled flags. None unless set."),
    key(
        "launchdarkly.environments[].filters",
        Kind::List,
        "",
        "Keys of payload filters; each is served as an environment of its own.",
    ),
    key(
        "launchdarkly.environments[].allowed_origins",
        Kind::List,
        "",
        "Origins that browsers may call from. Any origin unless set.",
    ),
    key(
        "launchdarkly.environments[].allowed_headers",
        Kind::List,
        "",
        "Request headers that browsers may send in addition to the usual ones.",
    ),
];

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MOMENT: Duration = Duration::from_millis(1);

impl Config {
    /// Reads the section; `None` when no environment is configured, so that this side does not exist at all.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if !reader.has_section("launchdarkly.environments") {
            return None;
        }
        let base_uri = reader.url("launchdarkly.base_uri");
        let client_side_base_uri = reader.url("launchdarkly.client_side_base_uri");
        let has_own_base = base_uri != "https://sdk.launchdarkly.com";
        let config = Self {
            stream_uri: reader.url("launchdarkly.stream_uri"),
            // As ld-relay does it (config/config_from_env.go): one custom base serves both.
            client_side_base_uri: if has_own_base && client_side_base_uri == "https://clientsdk.launchdarkly.com" {
                base_uri.clone()
            } else {
                client_side_base_uri
            },
            base_uri,
            events_uri: reader.url("launchdarkly.events_uri"),
            send_events: reader.flag("launchdarkly.send_events"),
            events_flush_interval: reader.duration("launchdarkly.events_flush_interval", MOMENT * 10..=DAY),
            events_capacity: usize_of(reader.count("launchdarkly.events_capacity", 1..=10_000_000)),
            events_max_payload: reader.size("launchdarkly.events_max_payload").unwrap_or(25 << 20),
            max_client_request_body: reader.size("launchdarkly.max_client_request_body").unwrap_or(5 << 20),
            heartbeat_interval: reader.duration("launchdarkly.heartbeat_interval", MOMENT * 10..=DAY),
            max_client_connection_time: reader
                .optional_duration("launchdarkly.max_client_connection_time", MOMENT * 10..=DAY * 365),
            init_timeout: reader.duration("launchdarkly.init_timeout", MOMENT..=DAY),
            disconnected_status_time: reader.duration("launchdarkly.disconnected_status_time", MOMENT..=DAY),
            read_timeout: reader.duration("launchdarkly.read_timeout", MOMENT * 100..=DAY),
            rejected_retry_interval: reader.duration("launchdarkly.rejected_retry_interval", MOMENT * 10..=DAY),
            environments: reader.each("launchdarkly.environments", EnvironmentConfig::read),
        };
        config.refuse_duplicates(reader);
        Some(config)
    }

    fn refuse_duplicates(&self, reader: &mut Reader<'_>) {
        let (mut names, mut keys, mut ids) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, environment) in self.environments.iter().enumerate() {
            let at = |field: &str| format!("launchdarkly.environments[{index}].{field}");
            if !names.insert(&environment.name) {
                reader.reject(&at("name"), format!("there is another environment named `{}`", environment.name));
            }
            let mobile_key = environment.mobile_key.as_ref().map(|it| it.expose());
            for (field, text) in [("sdk_key", Some(environment.sdk_key.expose())), ("mobile_key", mobile_key)] {
                if text.is_some_and(|text| !text.is_empty() && !keys.insert(text)) {
                    reader.reject(&at(field), "another environment has the same key");
                }
            }
            if environment.env_id.as_ref().is_some_and(|id| !ids.insert(id.as_str())) {
                reader.reject(&at("env_id"), "another environment has the same ID");
            }
        }
    }
}

impl EnvironmentConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let sdk_key = reader.secret("sdk_key");
        if sdk_key.is_none() {
            reader.reject("sdk_key", "is required");
        }
        let sdk_key = SdkKey::new(sdk_key.unwrap_or_else(|| "".into()));
        let mobile_key = reader.secret("mobile_key").map(MobileKey::new);
        for (field, text) in
            [("sdk_key", Some(sdk_key.expose())), ("mobile_key", mobile_key.as_ref().map(|it| it.expose()))]
        {
            // A key with such a character could not be sent, and HTTP libraries would print it in their complaint.
            if text.is_some_and(|text| text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte))) {
                reader.reject(field, "contains characters that no key has");
            }
        }
        Self {
            name: reader.required_text("name"),
            sdk_key,
            mobile_key,
            env_id: reader.optional_text("env_id").map(EnvironmentId::new),
            secure_mode: reader.flag("secure_mode"),
            ttl: reader.optional_duration("ttl", SECOND..=DAY * 365),
            filters: reader.list("filters"),
            allowed_origins: reader.list("allowed_origins"),
            allowed_headers: reader.list("allowed_headers"),
        }
    }
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
