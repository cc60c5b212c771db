//! Settings of the process. The lists of keys, here and in each vendor's crate, are the reference: the table in the
//! README and `yardarm check --print-effective` are generated from them.

mod document;
mod error;
mod keys;
mod limits;
mod load;
mod log_filter;
mod network;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use yardarm_core::client_address::ProxyRules;
use yardarm_core::readiness::ReadyPolicy;
use yardarm_core::settings::Reader;

pub use self::error::ConfigError;
pub use self::keys::keys;
pub use self::limits::Limits;
pub use self::load::{Loaded, Overrides, load, load_text, load_without_file};

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
    /// The LaunchDarkly side; `None` if it is not configured.
    pub launchdarkly: Option<yardarm_launchdarkly::Config>,
    /// The Harness side; `None` if it is not configured.
    pub harness: Option<yardarm_harness::Config>,
}

/// TLS on the listener of SDKs.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Certificate chain in PEM, the own certificate first.
    pub cert: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
    /// Oldest version that is accepted.
    pub min_version: TlsVersion,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// Settings of the plugin folder.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// The watched folder.
    pub dir: PathBuf,
    /// From which folders and files plugins are loaded.
    pub trust: yardarm_wasm::Trust,
    /// Whether a component without a binding file is bound to the hooks it exports.
    pub auto_bind: bool,
    /// How often the content of all files is compared with the loaded content.
    pub verify_interval: Duration,
    /// Limits of size and age for compiled plugins in the data folder.
    pub cache: yardarm_wasm::CacheLimits,
    /// Time over which open streams are checked again after a change of request plugins.
    pub recheck_window: Duration,
}

/// Settings of the shutdown.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownConfig {
    /// Time for which readiness is off while everything is still served, so that load balancers react.
    pub grace: Duration,
    /// Time over which the ends of streams are spread.
    pub drain: Duration,
    /// Longest time for everything after that: requests in progress, events, disk.
    pub timeout: Duration,
}

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Filter in the syntax of `tracing`, always with a default level: `info`, `info,yardarm_wasm=debug`.
    pub level: String,
    /// Whether lines are JSON objects.
    pub is_json: bool,
}

impl PluginConfig {
    /// Returns the settings for the plugin host, with the cache of compiled plugins below `data_dir`.
    pub(crate) fn folder(&self, data_dir: Option<&std::path::Path>) -> yardarm_wasm::Settings {
        yardarm_wasm::Settings {
            dir: self.dir.clone(),
            trust: self.trust,
            auto_bind: self.auto_bind,
            verify_interval: self.verify_interval,
            cache_dir: data_dir.map(|dir| dir.join("compiled-plugins")),
            cache_limits: self.cache,
            ..yardarm_wasm::Settings::default()
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

impl Config {
    fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            listen: reader.address("server.listen"),
            own_listen: own_listen(reader),
            limits: Limits {
                max_connections: count(reader, "server.max_connections"),
                max_head_bytes: bounded(reader.size("server.max_head"), 8 << 10, 16 << 20),
                max_headers: usize::try_from(reader.count("server.max_headers", 16..=20_000)).unwrap_or(usize::MAX),
                idle_timeout: reader.duration("server.idle_timeout", Duration::from_millis(100)..=HOUR),
                write_timeout: reader.duration("server.write_timeout", Duration::from_millis(100)..=HOUR),
                send_buffer: network::send_buffer(reader),
            },
            max_streams: count(reader, "server.max_streams"),
            proxies: network::proxies(reader),
            max_body: reader.size("server.max_body").unwrap_or(32 << 20),
            request_timeout: reader.duration("server.request_timeout", Duration::from_millis(100)..=HOUR),
            admin: reader.address("admin.listen"),
            admin_hosts: network::admin_hosts(reader),
            compression: reader.flag("server.compression"),
            tls: TlsConfig::read(reader),
            ready: ready_policy(reader),
            data_dir: reader.path("data.dir"),
            data_required: reader.flag("data.required"),
            plugins: PluginConfig {
                dir: reader.path("plugins.dir").unwrap_or_else(|| "./plugins.d".into()),
                trust: trust(reader),
                auto_bind: reader.flag("plugins.auto_bind"),
                verify_interval: reader.duration("plugins.verify_interval", Duration::from_secs(1)..=HOUR),
                cache: yardarm_wasm::CacheLimits {
                    max_size: reader.size("plugins.cache_max_size").unwrap_or(256 << 20),
                    max_age: reader.duration("plugins.cache_max_age", HOUR..=HOUR * 24 * 3650),
                },
                recheck_window: reader.duration("plugins.recheck_window", Duration::ZERO..=HOUR),
            },
            shutdown: ShutdownConfig {
                grace: reader.duration("shutdown.grace", Duration::ZERO..=HOUR),
                drain: reader.duration("shutdown.drain", Duration::ZERO..=HOUR),
                timeout: reader.duration("shutdown.timeout", Duration::from_millis(100)..=HOUR),
            },
            log: LogConfig::read(reader),
            launchdarkly: yardarm_launchdarkly::Config::read(reader),
            harness: yardarm_harness::Config::read(reader),
        };
        config.refuse_shared_addresses(reader);
        config
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

impl LogConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        let level = log_filter::parse(&reader.text("log.level")).unwrap_or_else(|problem| {
            reader.reject("log.level", problem);
            "info".to_owned()
        });
        let is_json = match reader.text("log.format").to_ascii_lowercase().as_str() {
            "json" => true,
            "text" => false,
            _ => {
                reader.reject("log.format", "must be `text` or `json`");
                false
            }
        };
        Self { level, is_json }
    }
}

impl TlsConfig {
    /// Reads the settings of TLS; `None` without a certificate.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (cert, key) = (reader.path("server.tls.cert"), reader.path("server.tls.key"));
        let min_version = match reader.text("server.tls.min_version").as_str() {
            "1.3" => TlsVersion::Tls13,
            "1.2" => TlsVersion::Tls12,
            _ => {
                reader.reject("server.tls.min_version", "must be `1.2` or `1.3`; older ones are not safe");
                TlsVersion::Tls12
            }
        };
        match (cert, key) {
            (Some(cert), Some(key)) => Some(Self { cert, key, min_version }),
            (None, None) => None,
            (Some(_), None) => {
                reader.reject("server.tls.key", "is required with `server.tls.cert`");
                None
            }
            (None, Some(_)) => {
                reader.reject("server.tls.cert", "is required with `server.tls.key`");
                None
            }
        }
    }
}

fn own_listen(reader: &mut Reader<'_>) -> BTreeMap<&'static str, SocketAddr> {
    let vendors = [("launchdarkly", "launchdarkly.listen"), ("harness", "harness.listen")];
    vendors.into_iter().filter_map(|(vendor, key)| Some((vendor, reader.optional_address(key)?))).collect()
}

fn trust(reader: &mut Reader<'_>) -> yardarm_wasm::Trust {
    match reader.text("plugins.trust").as_str() {
        "owner" => yardarm_wasm::Trust::Owner,
        "any" => yardarm_wasm::Trust::Any,
        _ => {
            reader.reject("plugins.trust", "must be `owner` or `any`");
            yardarm_wasm::Trust::Owner
        }
    }
}

fn ready_policy(reader: &mut Reader<'_>) -> ReadyPolicy {
    match reader.text("admin.ready").as_str() {
        "all" => ReadyPolicy::All,
        "any" => ReadyPolicy::Any,
        "started" => ReadyPolicy::Started,
        _ => {
            reader.reject("admin.ready", "must be `all`, `any` or `started`");
            ReadyPolicy::All
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

fn count(reader: &mut Reader<'_>, path: &str) -> usize {
    usize::try_from(reader.count(path, 1..=10_000_000)).unwrap_or(usize::MAX)
}

fn bounded(size: Option<u64>, least: usize, most: usize) -> usize {
    size.and_then(|it| usize::try_from(it).ok()).unwrap_or(most).clamp(least, most)
}
