//! Settings of the process. The declarations of settings, here and in each vendor's crate, are the reference: the table
//! in the README, the schema and `yardarm check --print-effective` are generated from them.

mod admin;
mod document;
mod error;
mod limits;
mod load;
mod log_filter;
mod network;
mod plugins;
mod schema;
mod server;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use yardarm_core::client_address::ProxyRules;
use yardarm_core::readiness::ReadyPolicy;
use yardarm_core::settings::{Key, Kind, PathOrNone, Reader, Setting};
use yardarm_core::{EnvironmentLabel, Secret, keys, settings};
use yardarm_fleet::FleetConfig;
pub use yardarm_wasm::Compiler;

pub(crate) use self::admin::AdminAccess;
use self::admin::AdminSettings;
pub use self::error::ConfigError;
pub use self::limits::Limits;
pub(crate) use self::load::load_admin;
pub use self::load::{Loaded, Overrides, file_to_read, load, load_text, load_without_file};
pub use self::plugins::PluginConfig;
pub use self::schema::schema;
use self::server::ServerSettings;
pub use self::server::{TlsConfig, TlsVersion};
pub use self::telemetry::{OtlpProtocol, TelemetryConfig};

/// The configuration of the gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address for SDKs.
    pub listen: SocketAddr,
    /// Separate addresses for the SDKs of a vendor, by vendor.
    pub own_listen: BTreeMap<&'static str, SocketAddr>,
    /// Limits of these listeners.
    pub limits: Limits,
    /// Streams at once, as configured.
    pub max_streams: usize,
    /// Proxies whose headers about client addresses are trusted.
    pub proxies: ProxyRules,
    /// Largest request body on any route, in bytes.
    pub max_body: u64,
    /// Longest time for a request that is not a stream.
    pub request_timeout: Duration,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// Token of operators; `None` rejects all orders about plugins.
    pub admin_token: Option<Secret>,
    /// Host names that the admin listener accepts besides `localhost`.
    pub admin_hosts: Vec<String>,
    /// Whether responses other than streams are compressed for clients that accept it.
    pub compression: bool,
    /// TLS on the listeners of SDKs; `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Which environments must serve data before the process is ready.
    pub ready: ReadyPolicy,
    /// Folder for persisted data; `None` persists nothing.
    pub data_dir: Option<PathBuf>,
    /// Whether a start fails if this folder cannot be used.
    pub data_required: bool,
    /// Settings of the plugin folder.
    pub plugins: PluginConfig,
    /// Settings of the shutdown.
    pub shutdown: ShutdownConfig,
    /// Settings of the log.
    pub log: LogConfig,
    /// The gateways that share upstream connections with this one; `None` without any.
    pub fleet: Option<FleetConfig>,
    /// Settings of the export by OTLP.
    pub telemetry: TelemetryConfig,
    /// The LaunchDarkly side; `None` if it is not configured.
    pub launchdarkly: Option<yardarm_launchdarkly::Config>,
    /// The Harness side; `None` if it is not configured.
    pub harness: Option<yardarm_harness::Config>,
}

settings! {
    /// Settings of the shutdown.
    #[derive(Debug, Clone, Copy)]
    pub struct ShutdownConfig in "shutdown" {
        /// Time after SIGTERM for which `/ready` is 503 and everything is still served; `0s` is none.
        pub grace: Duration = "0s", in Duration::ZERO..=HOUR,
        /// Time over which the ends of open streams are spread, so that SDKs do not all reconnect elsewhere at once;
        /// `0s` ends them together.
        pub drain: Duration = "5s", in Duration::ZERO..=HOUR,
        /// Longest time for the remaining work: requests in progress, events, disk.
        pub timeout: Duration = "20s", in TENTH..=HOUR,
    }
}

settings! {
    /// Settings of the log. The level is a filter in the syntax of `tracing`, always with a default level.
    #[derive(Debug, Clone)]
    pub struct LogConfig in "log" {
        /// `error`, `warn`, `info`, `debug`, `trace`, or levels by part such as `info,yardarm_wasm=debug`; parts that
        /// are not named log at `info`.
        pub level: String as LogLevel = "info",
        /// `text`, `json`, or `go`: lines as Go's standard logger writes them, such as `2026/12/03 15:49:11.123456 INFO: …`
        /// in local time, which programs that read the log of LaunchDarkly's relay expect.
        pub format: LogFormat as LogFormatName = "text",
        /// Whether each request of an SDK has a line, at `info`, with its method, route, status and time, its environment and
        /// caller, and what request plugins decided. Paths, which may contain contexts, and credentials are not in it.
        pub requests: bool = "false",
        /// Whether lines other than errors are written to standard output. If `false`, all are written to standard error.
        pub split_output: bool = "false",
    }
}

settings! {
    struct DataSettings in "data" {
        /// Folder for last good data and compiled plugins, for one process at a time. Created with mode 0700. An empty
        /// text is a choice of its own: nothing is persisted.
        dir: Option<PathBuf> as PathOrNone = "./data",
        /// Whether the gateway refuses to start when this folder cannot be used. If `false`, it logs a warning and
        /// persists nothing, which suits containers with a read-only file system.
        required: bool = "true",
    }
}

/// Returns the filter for a value of `log.level`.
///
/// # Errors
/// What is wrong with it, and what is accepted.
pub(crate) fn log_filter(level: &str) -> Result<String, String> {
    log_filter::parse(level)
}

/// Format of `log.level`.
enum LogLevel {}

impl Setting<String> for LogLevel {
    const KIND: Kind = Kind::Text;

    fn read(reader: &mut Reader<'_>, path: &str) -> String {
        log_filter::parse(&reader.text(path)).unwrap_or_else(|problem| {
            reader.reject(path, problem);
            "info".to_owned()
        })
    }
}

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
    /// Text in the form of Go's standard logger.
    Go,
}

/// Format of `log.format`, in upper or lower case.
enum LogFormatName {}

impl Setting<LogFormat> for LogFormatName {
    const KIND: Kind = Kind::Choice(&["text", "json", "go"]);

    fn read(reader: &mut Reader<'_>, path: &str) -> LogFormat {
        LogFormat::of(&reader.text(path)).unwrap_or_else(|| {
            reader.reject(path, "must be `text`, `json` or `go`");
            LogFormat::Text
        })
    }
}

impl LogFormat {
    /// Returns the format of this name, in upper or lower case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            "go" => Some(Self::Go),
            _ => None,
        }
    }
}

const KEYS: &[Key] = keys![
    ServerSettings::KEYS,
    AdminSettings::KEYS,
    DataSettings::KEYS,
    PluginConfig::KEYS,
    ShutdownConfig::KEYS,
    LogConfig::KEYS,
    yardarm_fleet::KEYS,
    TelemetryConfig::KEYS,
    yardarm_launchdarkly::config::KEYS,
    yardarm_harness::config::KEYS,
];

/// Returns the keys of the process and of both vendors, in the order of the reference documentation.
#[must_use]
pub fn keys() -> Vec<Key> {
    KEYS.to_vec()
}

const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    fn read(reader: &mut Reader<'_>, compiler: Compiler) -> Self {
        let server = ServerSettings::read_keys(reader);
        let own_listen = [("launchdarkly", server.launchdarkly.listen), ("harness", server.harness.listen)];
        let proxies = network::proxies(server.trusted_proxies, server.proxy_protocol, reader);
        let admin = AdminSettings::read_keys(reader);
        let data = DataSettings::read_keys(reader);
        let config = Self {
            listen: server.listen,
            own_listen: own_listen.into_iter().filter_map(|(vendor, address)| Some((vendor, address?))).collect(),
            limits: Limits {
                max_connections: server.max_connections,
                max_head_bytes: server.max_head.clamp(8 << 10, 16 << 20),
                max_headers: server.max_headers,
                idle_timeout: server.idle_timeout,
                write_timeout: server.write_timeout,
                send_buffer: u32::try_from(server.send_buffer.clamp(16 << 10, 64 << 20)).unwrap_or(256 << 10),
            },
            max_streams: server.max_streams,
            proxies,
            max_body: server.max_body,
            request_timeout: server.request_timeout,
            admin: admin.listen,
            admin_token: admin.token,
            admin_hosts: admin.allowed_hosts,
            compression: server.compression,
            tls: server.tls,
            ready: admin.ready,
            data_dir: data.dir,
            data_required: data.required,
            plugins: PluginConfig::read_keys(reader, compiler),
            shutdown: ShutdownConfig::read_keys(reader),
            log: LogConfig::read_keys(reader),
            fleet: FleetConfig::read(reader),
            telemetry: TelemetryConfig::read_keys(reader),
            launchdarkly: yardarm_launchdarkly::Config::read(reader),
            harness: yardarm_harness::Config::read(reader),
        };
        config.refuse_shared_addresses(reader);
        config
    }

    /// Returns the levels of log lines about single environments.
    #[must_use]
    pub fn log_levels(&self) -> Vec<(EnvironmentLabel, LevelFilter)> {
        self.launchdarkly.as_ref().map(yardarm_launchdarkly::Config::log_levels).unwrap_or_default()
    }

    /// Replaces the addresses of all listeners by free ones of this machine, for a run that serves no SDKs.
    pub(crate) fn close_to_sdks(&mut self) {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        (self.listen, self.admin) = (nowhere, nowhere);
        self.own_listen.clear();
        if let Some(side) = &mut self.launchdarkly {
            side.prometheus = None;
        }
    }

    /// Rejects equal addresses, because two listeners of one process cannot share one.
    fn refuse_shared_addresses(&self, reader: &mut Reader<'_>) {
        let metrics = self.launchdarkly.as_ref().and_then(|it| it.prometheus.as_ref());
        let own = self.own_listen.iter().map(|(vendor, address)| (format!("{vendor}.listen"), *address));
        let mut seen = vec![("server.listen".to_owned(), self.listen)];
        let others = own
            .chain([("admin.listen".to_owned(), self.admin)])
            .chain(metrics.map(|it| ("launchdarkly.prometheus.listen".to_owned(), it.listen)));
        for (key, address) in others {
            if let Some((other, _)) = seen.iter().find(|(_, it)| is_same_place(*it, address)) {
                reader.reject(&key, format!("is the same address as `{other}`: {address}"));
            }
            seen.push((key, address));
        }
    }
}

/// Returns whether two listeners cannot have these addresses at once. `0.0.0.0` covers every address of its family,
/// `[::]` covers all.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: SocketAddr, it: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || it.is_ipv4());
    let is_same_host = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() == other.port() && one.port() != 0 && is_same_host
}
