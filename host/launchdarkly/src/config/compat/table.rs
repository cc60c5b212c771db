//! All settings of ld-relay 8.0 to 9.0: names in the file, variables, forms, and what each one means here.

/// One setting.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) section: Section,
    /// Name in the file; empty for settings that only a variable has.
    pub(super) name: &'static str,
    /// Environment variable, or the part of it before the name of the environment; empty for none.
    pub(super) variable: &'static str,
    pub(super) form: Form,
    pub(super) meaning: Meaning,
}

/// Sections of the file, with their names in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Main,
    AutoConfig,
    OfflineMode,
    Events,
    Redis,
    Consul,
    DynamoDb,
    Environment,
    Filters,
    Proxy,
    Datadog,
    Stackdriver,
    Prometheus,
    OpenTelemetry,
    Concurrency,
    Http,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Bool,
    /// A whole number from 1.
    Positive,
    /// A whole number from 0.
    Natural,
    Duration,
    Url,
    Text,
    /// Texts separated by commas; those of several lines and of the variable are joined (U136).
    List,
    Level,
    TlsVersion,
    LogFormat,
    Size,
}

/// The meaning of a setting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// The value of this key. A duration outside the range of the key is replaced by the nearest one in it, with a
    /// warning. Keys of environments are relative to the entry.
    Is(&'static str),
    /// The value of this key if it is above zero; otherwise the setting is not set, as in ld-relay.
    IfPositive(&'static str),
    /// Handled by the translation itself.
    Own,
    /// No effect, with this explanation in a warning.
    Missed(&'static str),
}

impl Section {
    pub(super) const ALL: [Self; 16] = [
        Self::Main,
        Self::AutoConfig,
        Self::OfflineMode,
        Self::Events,
        Self::Redis,
        Self::Consul,
        Self::DynamoDb,
        Self::Environment,
        Self::Filters,
        Self::Proxy,
        Self::Datadog,
        Self::Stackdriver,
        Self::Prometheus,
        Self::OpenTelemetry,
        Self::Concurrency,
        Self::Http,
    ];

    /// Name in files and messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Main => "Main",
            Self::AutoConfig => "AutoConfig",
            Self::OfflineMode => "OfflineMode",
            Self::Events => "Events",
            Self::Redis => "Redis",
            Self::Consul => "Consul",
            Self::DynamoDb => "DynamoDB",
            Self::Environment => "Environment",
            Self::Filters => "Filters",
            Self::Proxy => "Proxy",
            Self::Datadog => "Datadog",
            Self::Stackdriver => "Stackdriver",
            Self::Prometheus => "Prometheus",
            Self::OpenTelemetry => "OpenTelemetry",
            Self::Concurrency => "Concurrency",
            Self::Http => "Http",
        }
    }

    /// Whether headers of this section have a text between quotation marks.
    pub(super) fn has_names(self) -> bool {
        matches!(self, Self::Environment | Self::Filters)
    }
}

const fn row(section: Section, name: &'static str, variable: &'static str, form: Form, meaning: Meaning) -> Row {
    Row { section, name, variable, form, meaning }
}

const MEMORY: &str = "SDKs are always served from memory";
const SLOW_READERS: &str = "a client that reads nothing for `server.write_timeout` is disconnected";
const NOT_EXPORTED: &str =
    "metrics are served at `/metrics` of the admin listener, and under ld-relay's names with [Prometheus]";

const NOT_YET: &str = "it is not supported yet";
const CONSUL_CLIENT: &str = "connections to Consul have the certificates of the system and a token, nothing else";
const POOLS: &str = "unused connections are limited per host";

/// All settings, in the order of ld-relay's manual.
pub(super) const ROWS: &[Row] = {
    use Form::{Bool, Duration, Level, List, LogFormat, Natural, Positive, Size, Text, TlsVersion, Url};
    use Meaning::{IfPositive, Is, Missed, Own};
    use Section::{
        AutoConfig, Concurrency, Consul, Datadog, DynamoDb, Environment, Events, Filters, Http, Main, OfflineMode,
        OpenTelemetry, Prometheus, Proxy, Redis, Stackdriver,
    };
    &[
        row(Main, "port", "PORT", Positive, Own),
        row(Main, "streamUri", "STREAM_URI", Url, Is("launchdarkly.stream_uri")),
        row(Main, "baseUri", "BASE_URI", Url, Own),
        row(Main, "clientSideBaseUri", "CLIENT_SIDE_BASE_URI", Url, Is("launchdarkly.client_side_base_uri")),
        row(Main, "exitOnError", "EXIT_ON_ERROR", Bool, Is("launchdarkly.exit_on_error")),
        row(Main, "exitAlways", "EXIT_ALWAYS", Bool, Is("launchdarkly.exit_always")),
        row(
            Main,
            "ignoreConnectionErrors",
            "IGNORE_CONNECTION_ERRORS",
            Bool,
            Is("launchdarkly.ignore_connection_errors"),
        ),
        row(Main, "initTimeout", "INIT_TIMEOUT", Duration, Is("launchdarkly.init_timeout")),
        row(Main, "heartbeatInterval", "HEARTBEAT_INTERVAL", Duration, Own),
        row(
            Main,
            "maxClientConnectionTime",
            "MAX_CLIENT_CONNECTION_TIME",
            Duration,
            IfPositive("launchdarkly.max_client_connection_time"),
        ),
        row(
            Main,
            "disconnectedStatusTime",
            "DISCONNECTED_STATUS_TIME",
            Duration,
            Is("launchdarkly.disconnected_status_time"),
        ),
        row(Main, "tlsEnabled", "TLS_ENABLED", Bool, Own),
        row(Main, "tlsCert", "TLS_CERT", Text, Own),
        row(Main, "tlsKey", "TLS_KEY", Text, Own),
        row(Main, "tlsMinVersion", "TLS_MIN_VERSION", TlsVersion, Own),
        row(Main, "logLevel", "LOG_LEVEL", Level, Own),
        row(
            Main,
            "bigSegmentsStaleAsDegraded",
            "BIG_SEGMENTS_STALE_AS_DEGRADED",
            Bool,
            Is("launchdarkly.big_segments_stale_as_degraded"),
        ),
        row(
            Main,
            "bigSegmentsStaleThreshold",
            "BIG_SEGMENTS_STALE_THRESHOLD",
            Duration,
            Is("launchdarkly.big_segments_stale_threshold"),
        ),
        row(
            Main,
            "expiredCredentialCleanupInterval",
            "EXPIRED_CREDENTIAL_CLEANUP_INTERVAL",
            Duration,
            Is("launchdarkly.expired_credential_cleanup_interval"),
        ),
        row(Main, "gracefulShutdownTimeout", "GRACEFUL_SHUTDOWN_TIMEOUT", Duration, Own),
        row(
            Main,
            "maxClientRequestBodySize",
            "MAX_CLIENT_REQUEST_BODY_SIZE",
            Size,
            Is("launchdarkly.max_client_request_body"),
        ),
        row(
            Main,
            "pingStreamJitterTime",
            "PING_STREAM_JITTER_TIME",
            Duration,
            IfPositive("launchdarkly.ping_stream_jitter_time"),
        ),
        row(Main, "clientWriteMinBytesPerSecond", "CLIENT_WRITE_MIN_BYTES_PER_SECOND", Natural, Missed(SLOW_READERS)),
        row(Main, "clientWriteSlack", "CLIENT_WRITE_SLACK", Duration, Missed(SLOW_READERS)),
        row(Main, "clientWriteMaxTime", "CLIENT_WRITE_MAX_TIME", Duration, Missed(SLOW_READERS)),
        row(Main, "", "LOG_FORMAT", LogFormat, Own),
        row(
            Main,
            "",
            "LD_TRACE_LOG_BIG_SEGMENTS",
            Bool,
            Missed("use `YARDARM_LOG_LEVEL=info,yardarm_launchdarkly=trace` to see the details of synchronization"),
        ),
        row(AutoConfig, "key", "AUTO_CONFIG_KEY", Text, Is("launchdarkly.auto_config.key")),
        row(AutoConfig, "envDatastorePrefix", "ENV_DATASTORE_PREFIX", Text, Own),
        row(AutoConfig, "envDatastoreTableName", "ENV_DATASTORE_TABLE_NAME", Text, Own),
        row(AutoConfig, "envAllowedOrigin", "ENV_ALLOWED_ORIGIN", List, Own),
        row(AutoConfig, "envAllowedHeader", "ENV_ALLOWED_HEADER", List, Own),
        row(AutoConfig, "cacheKey", "AUTO_CONFIG_CACHE_KEY", Text, Is("launchdarkly.auto_config.cache_key")),
        row(
            AutoConfig,
            "cacheEncryptionKey",
            "AUTO_CONFIG_CACHE_ENCRYPTION_KEY",
            Text,
            Is("launchdarkly.auto_config.cache_encryption_key"),
        ),
        row(OfflineMode, "fileDataSource", "FILE_DATA_SOURCE", Text, Is("launchdarkly.offline.file")),
        row(
            OfflineMode,
            "fileDataSourceMonitoringInterval",
            "FILE_DATA_SOURCE_MONITORING_INTERVAL",
            Duration,
            Is("launchdarkly.offline.monitoring_interval"),
        ),
        row(OfflineMode, "envDatastorePrefix", "ENV_DATASTORE_PREFIX", Text, Own),
        row(OfflineMode, "envDatastoreTableName", "ENV_DATASTORE_TABLE_NAME", Text, Own),
        row(OfflineMode, "envAllowedOrigin", "ENV_ALLOWED_ORIGIN", List, Own),
        row(OfflineMode, "envAllowedHeader", "ENV_ALLOWED_HEADER", List, Own),
        row(Events, "sendEvents", "USE_EVENTS", Bool, Is("launchdarkly.send_events")),
        row(Events, "eventsUri", "EVENTS_HOST", Url, Is("launchdarkly.events_uri")),
        row(
            Events,
            "flushInterval",
            "EVENTS_FLUSH_INTERVAL",
            Duration,
            IfPositive("launchdarkly.events_flush_interval"),
        ),
        row(Events, "capacity", "EVENTS_CAPACITY", Positive, Is("launchdarkly.events_capacity")),
        row(
            Events,
            "inlineUsers",
            "EVENTS_INLINE_USERS",
            Bool,
            Missed("events are forwarded as SDKs send them, as by ld-relay 8"),
        ),
        row(
            Events,
            "maxInboundPayloadSize",
            "EVENTS_MAX_INBOUND_PAYLOAD_SIZE",
            Size,
            Is("launchdarkly.events_max_payload"),
        ),
        row(
            Events,
            "metricsCapacity",
            "EVENTS_METRICS_CAPACITY",
            Natural,
            Missed("no usage events about connections are sent to LaunchDarkly"),
        ),
        row(Environment, "sdkKey", "LD_ENV_", Text, Is("sdk_key")),
        row(Environment, "mobileKey", "LD_MOBILE_KEY_", Text, Is("mobile_key")),
        row(Environment, "envId", "LD_CLIENT_SIDE_ID_", Text, Is("env_id")),
        row(Environment, "secureMode", "LD_SECURE_MODE_", Bool, Is("secure_mode")),
        row(Environment, "prefix", "LD_PREFIX_", Text, Is("prefix")),
        row(Environment, "tableName", "LD_TABLE_NAME_", Text, Own),
        row(Environment, "allowedOrigin", "LD_ALLOWED_ORIGIN_", List, Is("allowed_origins")),
        row(Environment, "allowedHeader", "LD_ALLOWED_HEADER_", List, Is("allowed_headers")),
        row(Environment, "logLevel", "LD_LOG_LEVEL_", Level, Is("log_level")),
        row(Environment, "ttl", "LD_TTL_", Duration, IfPositive("ttl")),
        row(Environment, "projKey", "LD_PROJ_KEY_", Text, Own),
        row(Environment, "filterKey", "", Text, Missed("list the keys of filters in a section [Filters]")),
        row(Environment, "offline", "", Bool, Missed("use [OfflineMode] to serve an archive")),
        row(Filters, "keys", "LD_FILTER_KEYS_", List, Own),
        row(Redis, "host", "REDIS_HOST", Text, Own),
        row(Redis, "port", "REDIS_PORT", Positive, Own),
        row(Redis, "url", "REDIS_URL", Url, Own),
        row(Redis, "tls", "REDIS_TLS", Bool, Is("launchdarkly.redis.tls")),
        row(Redis, "username", "REDIS_USERNAME", Text, Is("launchdarkly.redis.username")),
        row(Redis, "password", "REDIS_PASSWORD", Text, Is("launchdarkly.redis.password")),
        row(Redis, "localTtl", "CACHE_TTL", Duration, Missed(MEMORY)),
        row(Redis, "clientCertificateFile", "REDIS_CLIENT_CERT_FILE", Text, Is("launchdarkly.redis.client_cert")),
        row(Redis, "clientKeyFile", "REDIS_CLIENT_KEY_FILE", Text, Is("launchdarkly.redis.client_key")),
        row(Redis, "caFile", "REDIS_CA_FILE", Text, Is("launchdarkly.redis.ca_file")),
        row(
            Redis,
            "atomicUpsert",
            "REDIS_ATOMIC_UPSERT",
            Bool,
            Missed("items are always compared and written atomically"),
        ),
        row(
            Redis,
            "connectTimeout",
            "REDIS_CONNECT_TIMEOUT",
            Duration,
            IfPositive("launchdarkly.redis.connect_timeout"),
        ),
        row(Redis, "readTimeout", "REDIS_READ_TIMEOUT", Duration, IfPositive("launchdarkly.redis.read_timeout")),
        row(DynamoDb, "enabled", "USE_DYNAMODB", Bool, Own),
        row(DynamoDb, "tableName", "DYNAMODB_TABLE", Text, Is("launchdarkly.dynamodb.table_name")),
        row(DynamoDb, "url", "DYNAMODB_URL", Url, Is("launchdarkly.dynamodb.url")),
        row(DynamoDb, "localTtl", "CACHE_TTL", Duration, Missed(MEMORY)),
        row(Consul, "host", "CONSUL_HOST", Text, Own),
        row(Consul, "token", "CONSUL_TOKEN", Text, Is("launchdarkly.consul.token")),
        row(Consul, "tokenFile", "CONSUL_TOKEN_FILE", Text, Is("launchdarkly.consul.token_file")),
        // Variables of Consul's own programs and libraries.
        row(Consul, "", "CONSUL_HTTP_SSL", Bool, Own),
        row(Consul, "", "CONSUL_HTTP_TOKEN", Text, Own),
        row(Consul, "", "CONSUL_HTTP_TOKEN_FILE", Text, Own),
        row(Consul, "", "CONSUL_HTTP_AUTH", Text, Missed(CONSUL_CLIENT)),
        row(Consul, "", "CONSUL_CACERT", Text, Missed(CONSUL_CLIENT)),
        row(Consul, "", "CONSUL_CLIENT_CERT", Text, Missed(CONSUL_CLIENT)),
        row(Consul, "", "CONSUL_NAMESPACE", Text, Missed(CONSUL_CLIENT)),
        row(Consul, "localTtl", "CACHE_TTL", Duration, Missed(MEMORY)),
        row(Datadog, "enabled", "USE_DATADOG", Bool, Missed(NOT_EXPORTED)),
        row(Datadog, "prefix", "DATADOG_PREFIX", Text, Own),
        row(Datadog, "traceAddr", "DATADOG_TRACE_ADDR", Text, Own),
        row(Datadog, "statsAddr", "DATADOG_STATS_ADDR", Text, Own),
        row(Datadog, "tag", "", List, Own),
        row(Stackdriver, "enabled", "USE_STACKDRIVER", Bool, Missed(NOT_EXPORTED)),
        row(Stackdriver, "prefix", "STACKDRIVER_PREFIX", Text, Own),
        row(Stackdriver, "projectID", "STACKDRIVER_PROJECT_ID", Text, Own),
        row(Prometheus, "enabled", "USE_PROMETHEUS", Bool, Own),
        row(Prometheus, "port", "PROMETHEUS_PORT", Positive, Own),
        row(Prometheus, "prefix", "PROMETHEUS_PREFIX", Text, Own),
        row(Proxy, "url", "PROXY_URL", Url, Is("launchdarkly.outbound.proxy")),
        row(Proxy, "ntlmAuth", "PROXY_AUTH_NTLM", Bool, Missed(NOT_YET)),
        row(Proxy, "user", "PROXY_AUTH_USER", Text, Own),
        row(Proxy, "password", "PROXY_AUTH_PASSWORD", Text, Own),
        row(Proxy, "domain", "PROXY_AUTH_DOMAIN", Text, Own),
        row(Proxy, "caCertFiles", "PROXY_CA_CERTS", List, Is("launchdarkly.outbound.ca_files")),
        row(OpenTelemetry, "enabled", "USE_OTLP", Bool, Is("telemetry.otlp")),
        row(OpenTelemetry, "protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", Text, Own),
        row(OpenTelemetry, "metricsCardinalityLimit", "OTEL_METRICS_CARDINALITY_LIMIT", Natural, Own),
        row(
            OpenTelemetry,
            "environmentStatusMetrics",
            "OTEL_ENVIRONMENT_STATUS_METRICS",
            Bool,
            Is("telemetry.environment_status_metrics"),
        ),
        row(OpenTelemetry, "logsExporter", "OTEL_LOGS_EXPORTER", Text, Own),
        row(OpenTelemetry, "tracesExporter", "OTEL_TRACES_EXPORTER", Text, Own),
        row(OpenTelemetry, "metricsExporter", "OTEL_METRICS_EXPORTER", Text, Own),
        row(Concurrency, "maxConcurrent", "INIT_MAX_CONCURRENT", Natural, Is("launchdarkly.max_deliveries")),
        row(Concurrency, "maxQueued", "INIT_MAX_QUEUED", Natural, Is("launchdarkly.max_waiting_deliveries")),
        row(Concurrency, "sendTimeout", "INIT_SEND_TIMEOUT", Duration, IfPositive("launchdarkly.delivery_timeout")),
        row(Http, "enableCompression", "HTTP_ENABLE_COMPRESSION", Bool, Is("server.compression")),
        row(
            Http,
            "idleConnTimeout",
            "HTTP_IDLE_CONN_TIMEOUT",
            Duration,
            IfPositive("launchdarkly.outbound.idle_timeout"),
        ),
        row(Http, "maxIdleConns", "HTTP_MAX_IDLE_CONNS", Natural, Missed(POOLS)),
        row(Http, "maxIdleConnsPerHost", "HTTP_MAX_IDLE_CONNS_PER_HOST", Natural, Own),
        row(Http, "disableKeepAlives", "HTTP_DISABLE_KEEPALIVE", Bool, Own),
    ]
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_in_their_section() {
        let names: BTreeSet<_> = ROWS.iter().map(|it| (it.section, it.name, it.variable)).collect();
        assert_eq!(names.len(), ROWS.len());
        for section in Section::ALL {
            assert!(ROWS.iter().any(|it| it.section == section), "{section:?}");
        }
    }
}
