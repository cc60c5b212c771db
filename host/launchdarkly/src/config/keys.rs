//! All keys of this part: its reference manual.

use yardarm_core::settings::{Key, Kind};

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
        "Service that goals are fetched from. Follows `base_uri` if only that is set.",
    ),
    key("launchdarkly.events_uri", Kind::Url, "https://events.launchdarkly.com", "Service that events are posted to."),
    key(
        "launchdarkly.send_events",
        Kind::Bool,
        "false",
        "Whether events of SDKs are forwarded. If `false`, event posts are answered 503, as by LaunchDarkly's relay.",
    ),
    key("launchdarkly.events_flush_interval", Kind::Duration, "5s", "Time between posts of events."),
    key(
        "launchdarkly.events_capacity",
        Kind::Count,
        "1000",
        "Events per post. A queue that holds this many is posted at once; while upstream does not respond, further \
         events for it are dropped and counted.",
    ),
    key(
        "launchdarkly.events_memory",
        Kind::Size,
        "64MiB",
        "Memory for waiting events, over all environments: half for SDK keys, a quarter each for mobile keys and \
         environment IDs. Events that do not fit are dropped and counted. At least `4MiB`.",
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
        "Maximum duration of a stream; SDKs reconnect, which spreads them over gateways. No limit unless set.",
    ),
    key(
        "launchdarkly.ping_stream_jitter_time",
        Kind::Duration,
        "",
        "Maximum delay of pings to mobile and browser streams, so that their polls do not all arrive at once; the \
         minimum is half of it. Further changes meanwhile share one ping. No delay unless set.",
    ),
    key(
        "launchdarkly.client_streams",
        Kind::Text,
        "ping",
        "What streams of mobile and browser SDKs with a known context receive on a change: `ping`, so that SDKs poll, \
         as from LaunchDarkly's relay, or `evaluated`, the changed results themselves, as from LaunchDarkly's own \
         service. Streams with a context of more than 32 KiB always receive `ping`.",
    ),
    key(
        "launchdarkly.prometheus.listen",
        Kind::Address,
        "",
        "Address at which metrics under the names of LaunchDarkly's relay are served at `/metrics`; that relay uses \
         port 8031. Off unless set.",
    ),
    key(
        "launchdarkly.prometheus.prefix",
        Kind::Text,
        "launchdarkly_relay",
        "Prefix of the names of these metrics: letters, digits, `_` and `:`.",
    ),
    key(
        "launchdarkly.fdv2",
        Kind::Bool,
        "false",
        "Whether server-side SDKs may also use the second version of LaunchDarkly's delivery protocol, on `/sdk/poll` \
         and `/sdk/stream`.",
    ),
    key(
        "launchdarkly.init_timeout",
        Kind::Duration,
        "10s",
        "How long an environment without data answers 503 before streams are accepted and wait for it.",
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
        "Silence after which the upstream connection is considered dead and opened again.",
    ),
    key(
        "launchdarkly.min_reconnect_delay",
        Kind::Duration,
        "1s",
        "Lower bound of the first delay before a broken stream is opened again, which upstream may set by `retry:`.",
    ),
    key(
        "launchdarkly.max_reconnect_delay",
        Kind::Duration,
        "30s",
        "Longest delay before a broken stream is opened again; delays grow up to it while upstream cannot be reached.",
    ),
    key(
        "launchdarkly.rejected_retry_interval",
        Kind::Duration,
        "5m",
        "First delay before a key that upstream rejected is tried again; it doubles up to twelve times this value.",
    ),
    key(
        "launchdarkly.expired_credential_cleanup_interval",
        Kind::Duration,
        "1m",
        "How often expired keys are removed, and a key that upstream rejected is tried again while an older one still \
         works.",
    ),
    key(
        "launchdarkly.auto_config.key",
        Kind::Secret,
        "",
        "Auto-configuration key. With it LaunchDarkly sends the list of environments, and none may be configured \
         here.",
    ),
    key(
        "launchdarkly.auto_config.datastore_prefix",
        Kind::Text,
        "",
        "Key prefix of an environment in the database; `$CID` stands for the environment ID, or for `ID.FILTER` with \
         a payload filter. Required with a database.",
    ),
    key(
        "launchdarkly.auto_config.allowed_origins",
        Kind::List,
        "",
        "Origins that browsers may call from, for all environments. Any origin unless set.",
    ),
    key(
        "launchdarkly.auto_config.allowed_headers",
        Kind::List,
        "",
        "Request headers that browsers may send in addition to the usual ones, for all environments.",
    ),
    key(
        "launchdarkly.offline.file",
        Kind::Path,
        "",
        "Archive that LaunchDarkly generated for offline use. With it nothing is ever sent to LaunchDarkly, and no \
         environments may be configured here.",
    ),
    key(
        "launchdarkly.offline.monitoring_interval",
        Kind::Duration,
        "1s",
        "How often the archive is checked for a replacement.",
    ),
    key(
        "launchdarkly.offline.datastore_prefix",
        Kind::Text,
        "",
        "Key prefix of an environment in the database; `$CID` stands for the environment ID, or for `ID.FILTER` with \
         a payload filter. Required with a database.",
    ),
    key(
        "launchdarkly.offline.allowed_origins",
        Kind::List,
        "",
        "Origins that browsers may call from, for all environments. Any origin unless set.",
    ),
    key(
        "launchdarkly.offline.allowed_headers",
        Kind::List,
        "",
        "Request headers that browsers may send in addition to the usual ones, for all environments.",
    ),
    key(
        "launchdarkly.redis.url",
        Kind::Secret,
        "",
        "Redis server that data is written to, for server-side SDKs in daemon mode and for the next start: \
         `redis://user:password@host:6379/0`, `rediss://` for TLS. No database unless set.",
    ),
    key("launchdarkly.redis.tls", Kind::Bool, "false", "Whether TLS is also used with `redis://`."),
    key("launchdarkly.redis.username", Kind::Text, "", "User name, in place of the one in the address."),
    key("launchdarkly.redis.password", Kind::Secret, "", "Password, in place of the one in the address."),
    key(
        "launchdarkly.redis.check_interval",
        Kind::Duration,
        "30s",
        "How often the database is checked for the data. If it is missing, it is written again.",
    ),
    key(
        "launchdarkly.redis.poll_interval",
        Kind::Duration,
        "5s",
        "How often the database is read while LaunchDarkly cannot be reached, for data that other gateways have \
         written. Newer items are served; no item returns to an older version.",
    ),
    key(
        "launchdarkly.big_segments_stale_threshold",
        Kind::Duration,
        "5m",
        "Age of the last synchronization above which `/status` calls Big Segments potentially stale.",
    ),
    key(
        "launchdarkly.big_segments_stale_as_degraded",
        Kind::Bool,
        "false",
        "Whether `/status` is `degraded` when Big Segments are potentially stale.",
    ),
    key(
        "launchdarkly.big_segments_retry_interval",
        Kind::Duration,
        "10s",
        "First delay before a failed synchronization of Big Segments is tried again; it grows to three times this value.",
    ),
    key(
        "launchdarkly.big_segments_poll_interval",
        Kind::Duration,
        "60s",
        "How often Big Segments are polled while their stream is quiet.",
    ),
    key(
        "launchdarkly.environments[].name",
        Kind::Text,
        "",
        "Name in logs, metrics, status and plugin bindings. Required.",
    ),
    key("launchdarkly.environments[].sdk_key", Kind::Secret, "", "Server-side SDK key. Required."),
    key(
        "launchdarkly.environments[].mobile_key",
        Kind::Secret,
        "",
        "Mobile key. Without it, mobile routes answer 401.",
    ),
    key("launchdarkly.environments[].env_id", Kind::Text, "", "Client-side ID. Without it, browser routes answer 404."),
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
        "launchdarkly.environments[].prefix",
        Kind::Text,
        "",
        "Key prefix of the environment in the database; `launchdarkly` unless set. A payload filter adds `/` and its \
         key. Required if several environments share a database.",
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
