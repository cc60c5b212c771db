//! Settings of the LaunchDarkly side. The list of keys is the reference manual of this part.

mod environments;
mod keys;
mod live;
mod store;

use std::net::SocketAddr;
use std::time::Duration;

use yardarm_core::settings::Reader;

pub use self::environments::{CommonConfig, EnvironmentConfig, EnvironmentSource, Identity};
pub use self::keys::KEYS;
pub(crate) use self::live::LiveConfig;
pub(crate) use self::store::database_prefix;
pub use self::store::{BigSegmentsConfig, StoreConfig};

/// How soon a failed plugin is called again.
pub(crate) const PLUGIN_RETRY: Duration = Duration::from_secs(5);

/// Settings of the LaunchDarkly side.
#[derive(Debug, Clone)]
pub struct Config {
    /// Base URI of the service that flags are streamed from.
    pub stream_uri: String,
    /// Base URI of the service that SDKs poll; used only as the default of the client-side base.
    pub base_uri: String,
    /// Base URI of the service that goals are fetched from.
    pub client_side_base_uri: String,
    /// Base URI of the service that events are posted to.
    pub events_uri: String,
    /// Whether events are forwarded at all.
    pub send_events: bool,
    /// Time between posts of events.
    pub events_flush_interval: Duration,
    /// Events per post; a queue that has so many is posted at once.
    pub events_capacity: usize,
    /// Bytes of events that may wait for upstream, for all environments.
    pub events_memory: usize,
    /// Largest decompressed event post, in bytes.
    pub events_max_payload: u64,
    /// Largest body of a `REPORT` request, in bytes.
    pub max_client_request_body: u64,
    /// Time between heartbeats on streams.
    pub heartbeat_interval: Duration,
    /// Longest life of a stream; `None` for no limit.
    pub max_client_connection_time: Option<Duration>,
    /// Longest delay of announcements to mobile and browser streams; `None` for no delay.
    pub ping_stream_jitter_time: Option<Duration>,
    /// Whether the second version of the delivery protocol is spoken.
    pub fdv2: bool,
    /// The events that mobile and browser streams are sent for a change.
    pub client_streams: ClientStreamMode,
    /// Metrics under the names of LaunchDarkly's relay.
    pub prometheus: Option<Prometheus>,
    /// How long an environment without data answers "starting".
    pub init_timeout: Duration,
    /// How long an interruption lasts before an environment counts as disconnected.
    pub disconnected_status_time: Duration,
    /// Silence after which an upstream connection counts as dead.
    pub read_timeout: Duration,
    /// Lower bound of the first reconnect delay that upstream may request.
    pub min_reconnect_delay: Duration,
    /// Longest reconnect delay.
    pub max_reconnect_delay: Duration,
    /// First delay before the next attempt with a rejected key.
    pub rejected_retry_interval: Duration,
    /// Time between removals of expired keys.
    pub expired_credential_cleanup_interval: Duration,
    /// The database and the features that need one.
    pub store: StoreConfig,
    /// Source of the list of environments.
    pub environments: EnvironmentSource,
}

/// The events that streams of client-side SDKs are sent for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStreamMode {
    /// `ping`, like LaunchDarkly's relay.
    Ping,
    /// Evaluated results, like LaunchDarkly's own service.
    Evaluated,
}

/// A listener for metrics.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Address that it listens on.
    pub listen: SocketAddr,
    /// Prefix of every metric name, a valid Prometheus name itself.
    pub prefix: String,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Smallest `events_memory`, so that each kind of credential has room for one large event.
const MIN_EVENTS_MEMORY: u64 = 4 << 20;
const MOMENT: Duration = Duration::from_millis(1);

impl Config {
    /// Reads the section; `None` when no environment is configured, in which case nothing of LaunchDarkly is served.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environments = EnvironmentSource::read(reader)?;
        let base_uri = reader.url("launchdarkly.base_uri");
        let client_side_base_uri = reader.url("launchdarkly.client_side_base_uri");
        let has_own_base = base_uri != "https://sdk.launchdarkly.com";
        let config = Self {
            stream_uri: reader.url("launchdarkly.stream_uri"),
            // Like ld-relay (config/config_from_env.go): one custom base URI is used for both.
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
            events_memory: Self::read_events_memory(reader),
            events_max_payload: reader.size("launchdarkly.events_max_payload").unwrap_or(25 << 20),
            max_client_request_body: reader.size("launchdarkly.max_client_request_body").unwrap_or(5 << 20),
            heartbeat_interval: reader.duration("launchdarkly.heartbeat_interval", MOMENT * 10..=DAY),
            max_client_connection_time: reader
                .optional_duration("launchdarkly.max_client_connection_time", MOMENT * 10..=DAY * 365),
            ping_stream_jitter_time: reader
                .optional_duration("launchdarkly.ping_stream_jitter_time", MOMENT..=Duration::from_secs(3600)),
            fdv2: reader.flag("launchdarkly.fdv2"),
            client_streams: ClientStreamMode::read(reader),
            prometheus: Prometheus::read(reader),
            init_timeout: reader.duration("launchdarkly.init_timeout", MOMENT..=DAY),
            disconnected_status_time: reader.duration("launchdarkly.disconnected_status_time", MOMENT..=DAY),
            read_timeout: reader.duration("launchdarkly.read_timeout", MOMENT * 100..=DAY),
            min_reconnect_delay: reader.duration("launchdarkly.min_reconnect_delay", MOMENT..=DAY),
            max_reconnect_delay: reader.duration("launchdarkly.max_reconnect_delay", MOMENT..=DAY),
            rejected_retry_interval: reader.duration("launchdarkly.rejected_retry_interval", MOMENT * 10..=DAY),
            expired_credential_cleanup_interval: reader
                .duration("launchdarkly.expired_credential_cleanup_interval", MOMENT * 100..=DAY),
            store: StoreConfig::read(reader),
            environments,
        };
        config.store.refuse_shared_prefixes(&config.environments, reader);
        Some(config)
    }

    fn read_events_memory(reader: &mut Reader<'_>) -> usize {
        let key = "launchdarkly.events_memory";
        let memory = reader.size(key).unwrap_or(64 << 20);
        if memory < MIN_EVENTS_MEMORY {
            reader.reject(key, "must be at least `4MiB`");
        }
        usize::try_from(memory).unwrap_or(usize::MAX)
    }
}

impl Prometheus {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (key, listen) =
            ("launchdarkly.prometheus.prefix", reader.optional_address("launchdarkly.prometheus.listen"));
        let prefix = reader.text(key);
        let is_name = !prefix.starts_with(|it: char| it.is_ascii_digit())
            && prefix.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b':'));
        if !is_name {
            reader.reject(key, "may consist of letters, digits, `_` and `:` only, and not begin with a digit");
        }
        listen.map(|listen| Self { listen, prefix })
    }
}

impl ClientStreamMode {
    fn read(reader: &mut Reader<'_>) -> Self {
        match reader.text("launchdarkly.client_streams").as_str() {
            "ping" => Self::Ping,
            "evaluated" => Self::Evaluated,
            _ => {
                reader.reject("launchdarkly.client_streams", "must be `ping` or `evaluated`");
                Self::Ping
            }
        }
    }
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
