//! Settings of the LaunchDarkly side. The documentation of their fields is the reference manual of this part.

pub mod compat;
mod environments;
mod list_cache;
mod live;
mod store;

use std::net::SocketAddr;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use yardarm_core::settings::{Key, Reader, Size, Url};
use yardarm_core::{EnvironmentLabel, Secret, choices, keys, settings};
use yardarm_vendor::outbound_settings;
use yardarm_vendor::upstream::Outbound;

use self::environments::{AutoConfigSettings, EnvironmentSettings, OfflineSettings};
pub use self::environments::{CommonConfig, EnvironmentConfig, EnvironmentSource, Identity, LogLevel};
pub use self::list_cache::ListCacheConfig;
pub(crate) use self::live::LiveConfig;
pub use self::store::{BigSegmentsConfig, DatabaseConfig, StoreConfig};
use self::store::{ConsulSettings, DynamoDbSettings, RedisSettings};
use crate::identity::label;

/// How soon a failed plugin is called again.
pub(crate) const PLUGIN_RETRY: Duration = Duration::from_secs(5);

outbound_settings!("launchdarkly.outbound");

settings! {
    /// Settings of the LaunchDarkly side.
    #[derive(Debug, Clone)]
    pub struct Config in "launchdarkly" with {
        /// The database and the features that need one.
        pub store: StoreConfig,
        /// Source of the list of environments.
        pub environments: EnvironmentSource,
    } {
        /// Service that flags are streamed from.
        pub stream_uri: String as Url = "https://stream.launchdarkly.com",
        /// Service that SDKs poll.
        pub base_uri: String as Url = "https://sdk.launchdarkly.com",
        /// Service that goals are fetched from. Follows `base_uri` if only that is set.
        pub client_side_base_uri: String as Url = "https://clientsdk.launchdarkly.com",
        /// The version of the delivery protocol that flags are received by: `fdv1` streams, as LaunchDarkly's relay does up
        /// to version 8, or `fdv2`, as it does since version 9: a poll of `base_uri`, then a stream, and polls while the
        /// stream is not available. Environments with a payload filter always use `fdv1`.
        pub upstream_protocol: UpstreamProtocol = "fdv1",
        /// Service that events are posted to.
        pub events_uri: String as Url = "https://events.launchdarkly.com",
        /// Whether events of SDKs are forwarded. If `false`, event posts are answered 503, as by LaunchDarkly's relay.
        pub send_events: bool = "false",
        /// Time between posts of events.
        pub events_flush_interval: Duration = "5s", in MOMENT..=DAY,
        /// Events per post. A queue that holds this many is posted at once; while upstream does not respond, further
        /// events for it are dropped and counted.
        pub events_capacity: usize = "1000", in 1..=10_000_000,
        /// Memory for waiting events, over all environments: half for SDK keys, a quarter each for mobile keys and
        /// environment IDs. Events that do not fit are dropped and counted. At least `4MiB`.
        pub events_memory: usize as Size = "64MiB",
        /// Whether accepted events are kept in the data folder, if there is one, until LaunchDarkly has them, so that they
        /// outlive the process and an outage of LaunchDarkly.
        pub events_spool: bool = "true",
        /// Space for these events: half for SDK keys, a quarter each for mobile keys and environment IDs. Those that do not
        /// fit are kept in memory only.
        pub events_spool_size: u64 as Size = "256MiB",
        /// Secret with which events on disk are encrypted: a generated text, not a password. They are not encrypted unless
        /// set.
        pub events_spool_key: Option<Secret>,
        /// Largest event post after decompression. Larger ones are answered 400.
        pub events_max_payload: u64 as Size = "25MiB",
        /// Largest body of a REPORT request. Larger ones are answered 413.
        pub max_client_request_body: u64 as Size = "5MiB",
        /// Time between heartbeats on streams. Keep it below five minutes: SDKs reconnect after that much silence.
        pub heartbeat_interval: Duration = "3m", in MOMENT..=DAY,
        /// Maximum duration of a stream; SDKs reconnect, which spreads them over gateways. No limit unless set.
        pub max_client_connection_time: Option<Duration>, in MOMENT..=YEAR,
        /// Maximum delay of pings to mobile and browser streams, so that their polls do not all arrive at once; the
        /// minimum is half of it. Further changes meanwhile share one ping. No delay unless set.
        pub ping_stream_jitter_time: Option<Duration>, in MILLISECOND..=HOUR,
        /// Full deliveries of flag data at a time, over all environments: of the streams `/all` and `/sdk/stream`, and of the
        /// polls `/sdk/flags`, `/sdk/latest-all`, `/sdk/poll` and `/sdk/poll/eval`. Further ones wait. A client that reads
        /// less than 64 KiB per second counts no longer. `0`: no limit.
        pub max_deliveries: usize = "0", in 0..=65_536,
        /// Full deliveries that wait at most. Beyond them polls are answered 503, and streams end. `0`: none waits.
        pub max_waiting_deliveries: usize = "0", in 0..=1_000_000,
        /// Time after which a full delivery counts no longer.
        pub delivery_timeout: Duration = "2m", in FIVE_SECONDS..=DAY,
        /// What streams of mobile and browser SDKs with a known context receive on a change: `ping`, so that SDKs poll,
        /// as from LaunchDarkly's relay, or `evaluated`, the changed results themselves, as from LaunchDarkly's own
        /// service. Streams with a context of more than 32 KiB always receive `ping`.
        pub client_streams: ClientStreamMode = "ping",
        /// Metrics under the names of LaunchDarkly's relay.
        pub prometheus: Option<Prometheus> => PrometheusSettings::read,
        /// Whether SDKs may also use the second version of LaunchDarkly's delivery protocol, on paths below `/sdk/poll` and
        /// `/sdk/stream`. Without it these are answered 404, after which SDKs with a data system stop for good.
        pub fdv2: bool = "true",
        /// How long an environment without data answers 503 before streams are accepted and wait for it.
        pub init_timeout: Duration = "10s", in MILLISECOND..=DAY,
        /// Whether the process ends with an error if an environment fails at the start: LaunchDarkly rejects its key, or
        /// it has no data after `init_timeout`, neither from LaunchDarkly nor from a store.
        pub exit_on_error: bool = "false",
        /// Whether the process ends as soon as every environment has data or has failed, which fills a database. No SDKs
        /// are served. It ends with an error if an environment has failed.
        pub exit_always: bool = "false",
        /// Whether failures of environments at the start are logged as warnings, and `exit_on_error` has no effect.
        pub ignore_connection_errors: bool = "false",
        /// How long an interruption may last before `/status` calls an environment disconnected.
        pub disconnected_status_time: Duration = "1m", in MILLISECOND..=DAY,
        /// Silence after which the upstream connection is considered dead and opened again.
        pub read_timeout: Duration = "5m", in TENTH..=DAY,
        /// How often `/status` of upstream is read, where upstream is a relay, such as another gateway: an environment that has
        /// lost its connection there is shown as interrupted here too. Never unless set.
        pub upstream_status_interval: Option<Duration>, in TENTH..=DAY,
        /// Lower bound of the first delay before a broken stream is opened again, which upstream may set by `retry:`.
        pub min_reconnect_delay: Duration = "1s", in MILLISECOND..=DAY,
        /// Longest delay before a broken stream is opened again; delays grow up to it while upstream cannot be reached.
        pub max_reconnect_delay: Duration = "30s", in MILLISECOND..=DAY,
        /// First delay before a key that upstream rejected is tried again; it doubles up to twelve times this value.
        pub rejected_retry_interval: Duration = "5m", in MOMENT..=DAY,
        /// Connections to the vendor's services.
        pub outbound: Outbound => OutboundSettings::read,
        /// How often expired keys are removed, and a key that upstream rejected is tried again while an older one still
        /// works.
        pub expired_credential_cleanup_interval: Duration = "1m", in TENTH..=DAY,
    }
}

/// The events that streams of client-side SDKs are sent for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStreamMode {
    /// `ping`, like LaunchDarkly's relay.
    Ping,
    /// Evaluated results, like LaunchDarkly's own service.
    Evaluated,
}

/// Versions of LaunchDarkly's delivery protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// Streams of `put`, `patch` and `delete`.
    Fdv1,
    /// Transfers of objects that lead from one state to another.
    Fdv2,
}

/// A listener for metrics.
#[derive(Debug, Clone)]
pub struct Prometheus {
    /// Address that it listens on.
    pub listen: SocketAddr,
    /// Prefix of every metric name, a valid Prometheus name itself.
    pub prefix: String,
}

settings! {
    struct PrometheusSettings in "launchdarkly.prometheus" {
        /// Address at which metrics under the names of LaunchDarkly's relay are served at `/metrics`; that relay uses
        /// port 8031. Off unless set.
        listen: Option<SocketAddr>,
        /// Prefix of the names of these metrics: letters, digits, `_` and `:`.
        prefix: String = "launchdarkly_relay",
    }
}

choices! {
    ClientStreamMode as ClientStreamMode {
        "ping" => ClientStreamMode::Ping,
        "evaluated" => ClientStreamMode::Evaluated,
    }
}

choices! {
    UpstreamProtocol as UpstreamProtocol {
        "fdv1" => UpstreamProtocol::Fdv1,
        "fdv2" => UpstreamProtocol::Fdv2,
    }
}

/// All keys of the LaunchDarkly side but the address of its listener.
pub const KEYS: &[Key] = keys![
    Config::KEYS,
    AutoConfigSettings::KEYS,
    OfflineSettings::KEYS,
    RedisSettings::KEYS,
    DynamoDbSettings::KEYS,
    ConsulSettings::KEYS,
    BigSegmentsConfig::KEYS,
    EnvironmentSettings::KEYS
];

const MILLISECOND: Duration = Duration::from_millis(1);
const MOMENT: Duration = Duration::from_millis(10);
const TENTH: Duration = Duration::from_millis(100);
const FIVE_SECONDS: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Smallest `events_memory`, so that each kind of credential has room for one large event.
const MIN_EVENTS_MEMORY: usize = 4 << 20;

impl Config {
    /// Reads the section; `None` when no environment is configured, in which case nothing of LaunchDarkly is served.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environments = EnvironmentSource::read(reader)?;
        let store = StoreConfig::read(reader, &environments);
        let mut config = Self::read_keys(reader, store, environments);
        let has_own_base = config.base_uri != reader.default_of("launchdarkly.base_uri");
        // Like ld-relay (config/config_from_env.go): one custom base URI is used for both.
        if has_own_base && config.client_side_base_uri == reader.default_of("launchdarkly.client_side_base_uri") {
            config.client_side_base_uri.clone_from(&config.base_uri);
        }
        if config.events_memory < MIN_EVENTS_MEMORY {
            reader.reject("launchdarkly.events_memory", "must be at least `4MiB`");
        }
        config.store.refuse_shared_parts(&config.environments, reader);
        config.store.refuse_cache(&config.environments, reader);
        Some(config)
    }
}

impl Config {
    /// Returns the levels of log lines about single environments and their filtered variants.
    #[must_use]
    pub fn log_levels(&self) -> Vec<(EnvironmentLabel, LevelFilter)> {
        let EnvironmentSource::Configured(environments) = &self.environments else { return Vec::new() };
        let leveled = environments.iter().filter_map(|it| Some((it, it.log_level.0?)));
        leveled
            .flat_map(|(environment, level)| {
                let filters = std::iter::once("").chain(environment.filters.iter().map(String::as_str));
                filters.map(move |filter| (label(&environment.name, filter), level))
            })
            .collect()
    }

    /// Whether accepted events are kept on disk, if there is a data folder.
    #[must_use]
    pub fn spools_events(&self) -> bool {
        let is_offline = matches!(self.environments, EnvironmentSource::Offline { .. });
        self.send_events && self.events_spool && !is_offline
    }
}

impl PrometheusSettings {
    fn read(reader: &mut Reader<'_>) -> Option<Prometheus> {
        let Self { listen, prefix } = Self::read_keys(reader);
        let is_name = !prefix.starts_with(|it: char| it.is_ascii_digit())
            && prefix.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b':'));
        if !is_name {
            let problem = "may consist of letters, digits, `_` and `:` only, and not begin with a digit";
            reader.reject("launchdarkly.prometheus.prefix", problem);
        }
        listen.map(|listen| Prometheus { listen, prefix })
    }
}
