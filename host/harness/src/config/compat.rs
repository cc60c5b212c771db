//! Translates the settings of ff-proxy, versions 1 and 2, to settings of Yardarm (F111).
//!
//! A pure function from flags and variables to [`CompatOverride`]s. Every variable `YARDARM_…` takes precedence over them.

mod raw_args;
mod table;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use yardarm_core::Secret;
use yardarm_core::settings::{CompatOverride, ValueSource, variable};

use self::raw_args::{RawArgs, Value};
pub use self::table::usage;
use self::table::{Meaning, ROWS};
use crate::identity::secret_file;

/// The result of a translation.
#[derive(Debug, Default)]
pub struct Translation {
    /// Settings of Yardarm.
    pub overrides: Vec<CompatOverride>,
    /// Settings without an effect that their user may expect.
    pub warnings: Vec<String>,
    /// Folder that offline files are written to, after which the process ends; `None` to serve.
    pub export: Option<PathBuf>,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// Flags or values that ff-proxy would reject as well. All of them are listed.
    #[error("{}", .0.join("\n"))]
    Usage(Vec<String>),
    /// Variables without which nothing can be served.
    #[error("The following configuration values are required: [{}]", .0.join(" "))]
    Missing(Vec<&'static str>),
    /// Settings that request a feature that does not exist here. All of them are listed.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
}

/// Required settings of version 1. A proxy key replaces all of them.
const SOURCE: [(&str, &str); 4] = [
    ("ACCOUNT_IDENTIFIER", "harness.account"),
    ("ORG_IDENTIFIER", "harness.organization"),
    ("ADMIN_SERVICE_TOKEN", "harness.admin_token"),
    ("API_KEYS", "harness.environments"),
];
const PROXY_KEY: (&str, &str) = ("PROXY_KEY", "harness.proxy_key");
/// Settings that are off in version 2 unless set.
const OFF_IN_VERSION_2: [(&str, &str); 2] =
    [("FORWARD_TARGETS", "harness.forward_targets"), ("AND_RULES", "harness.and_rules")];
/// Variables that version 1 does not know.
const VERSION_2: [&str; 8] = [
    "READ_REPLICA",
    "REDIS_USERNAME",
    "REDIS_POOL_SIZE",
    "FORWARD_TARGETS",
    "AND_RULES",
    "PROMETHEUS_PORT",
    "METRICS_STREAM_MAX_LEN",
    "METRIC_STREAM_READ_CONCURRENCY",
];
const REDIS: (&str, &str) = ("REDIS_ADDRESS", "harness.redis.url");
const READ_REPLICA: (&str, &str) = ("READ_REPLICA", "harness.read_replica");
const TLS: [(&str, &str); 2] = [("TLS_CERT", "server.tls.cert"), ("TLS_KEY", "server.tls.key")];

const DEFAULT_DIR: &str = "/config";
/// Longest interval in seconds, which is a day. Longer intervals are shortened to it.
const MAX_SECONDS: u64 = 24 * 3600;

/// Translates flags and variables. `variables` are those of the process; empty ones count as unset.
///
/// # Errors
/// When a setting is malformed, missing, or requests a feature that does not exist here.
pub fn translate(arguments: &[String], variables: &[(String, String)]) -> Result<Translation, CompatError> {
    let args = RawArgs::read(arguments, variables)?;
    let has_own = |path: &'static str| {
        let name = variable(path);
        let is_it = |it: &str| it == name || it.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_'));
        variables.iter().any(|(it, text)| is_it(it) && !text.trim().is_empty())
    };
    let generates = args.is_on("GENERATE_OFFLINE_CONFIG");
    let is_replica = args.is_on(READ_REPLICA.0) && !generates;
    let is_offline = args.is_on("OFFLINE") && !generates && !is_replica;
    // An export needs no database, and offline there is nothing to share.
    let address = args.last(REDIS.0).filter(|_| !generates && !is_offline);
    if let Some(cluster) = address.filter(|it| it.text.expose().contains(',')) {
        let problem = "is not supported yet with several addresses, which mean a Redis cluster; give one address";
        return Err(CompatError::Refused(vec![format!("{} {problem}", cluster.source)]));
    }
    let has_proxy_key = args.last(PROXY_KEY.0).is_some() || has_own(PROXY_KEY.1);
    let needs_keys = !is_offline && !is_replica && !has_proxy_key;
    let keys = if needs_keys { api_keys(&args) } else { Vec::new() };
    let has = |(variable, path): &(&'static str, &'static str)| {
        has_own(path) || if *variable == "API_KEYS" { !keys.is_empty() } else { args.last(variable).is_some() }
    };
    let tls: &[_] = if args.is_on("TLS_ENABLED") { &TLS } else { &[] };
    let source: &[_] = if needs_keys { &SOURCE } else { &[] };
    let redis: &[_] = if is_replica { &[REDIS] } else { &[] };
    let mut missing: Vec<_> = source.iter().chain(redis).chain(tls).filter(|it| !has(it)).map(|it| it.0).collect();
    let is_version_2 = VERSION_2.iter().any(|it| args.last(it).is_some()) && source.iter().all(|it| !has(it));
    if is_version_2 && !source.is_empty() {
        // Deployments of version 2 have none of the others.
        missing.retain(|name| source.iter().all(|it| it.0 != *name));
        missing.insert(0, PROXY_KEY.0);
    }
    if !missing.is_empty() {
        return Err(CompatError::Missing(missing));
    }

    let mut translation = Translation::default();
    translation.set_defaults(generates);
    if has_proxy_key && !is_replica && args.last("API_KEYS").is_some() {
        translation.warnings.push("API_KEYS has no effect beside PROXY_KEY".to_owned());
    }
    translation.rows(&args);
    if has_proxy_key || is_replica {
        // Off in version 2 unless set, though on here.
        for (variable, path) in OFF_IN_VERSION_2 {
            if args.last(variable).is_none() && !has_own(path) {
                translation.set(path, Value { source: ValueSource::Default, text: "false".into() });
            }
        }
    }
    for (index, key) in keys.into_iter().enumerate() {
        translation.set(&format!("harness.environments[{index}].api_key"), key);
    }
    if let Some(address) = address {
        translation.redis(&args, address);
    }
    if let Some(replica) = args.last(READ_REPLICA.0).filter(|_| is_replica) {
        translation.set(READ_REPLICA.1, replica.clone());
    }
    if let Some(key) = args.last(PROXY_KEY.0).filter(|_| !is_offline && !is_replica) {
        translation.set(PROXY_KEY.1, key.clone());
    }
    let dir = args.last("CONFIG_DIR").cloned();
    let dir = dir.unwrap_or_else(|| Value { source: ValueSource::Default, text: DEFAULT_DIR.into() });
    if generates {
        translation.export = Some(dir.text.expose().into());
    } else if is_offline {
        translation.set("harness.offline.dir", dir);
    }
    for (variable, path) in tls {
        if let Some(value) = args.last(variable) {
            translation.set(path, value.clone());
        }
    }
    translation.port(&args);
    translation.log_level(&args);
    Ok(translation)
}

/// Generates a secret for the tokens of SDKs, for this process only.
#[must_use]
pub fn generate_secret() -> Secret {
    secret_file::generate()
}

/// Returns the API keys, those of flags first. Empty ones, such as after a comma at the end, are ignored.
fn api_keys(args: &RawArgs) -> Vec<Value> {
    let split = |value: &Value| {
        let each = |text: &str| Value { source: value.source.clone(), text: text.into() };
        value.text.expose().split(',').filter(|it| !it.trim().is_empty()).map(each).collect::<Vec<_>>()
    };
    args.all("API_KEYS").iter().flat_map(split).collect()
}

impl Translation {
    fn set(&mut self, key: &str, Value { source, text }: Value) {
        self.overrides.push(CompatOverride { key: key.to_owned(), source, text });
    }

    fn set_default(&mut self, key: &str, text: &str) {
        self.set(key, Value { source: ValueSource::Default, text: text.into() });
    }

    /// Sets what ff-proxy does by default and Yardarm does not.
    fn set_defaults(&mut self, generates: bool) {
        self.set_default("data.dir", "");
        self.set_default("log.format", "json");
        // SDKs of browsers send a target of up to 256 KiB in a header.
        self.set_default("server.max_head", "1MiB");
        // SDKs go on with their tokens, and an unchanged deployment starts.
        self.set_default("harness.ff_proxy_tokens", "true");
        if generates {
            // No client connects, and an instance that serves may run at the same time.
            self.set_default("server.listen", "127.0.0.1:0");
            self.set_default("admin.listen", "127.0.0.1:0");
        } else {
            self.set_default("server.listen", "0.0.0.0:7000");
        }
    }

    fn rows(&mut self, args: &RawArgs) {
        for row in ROWS {
            let Some(value) = args.last(row.variable) else { continue };
            match row.meaning {
                Meaning::Is(key) => self.set(key, value.clone()),
                Meaning::Seconds(key) => self.seconds(key, value),
                Meaning::PositiveSeconds(key) if value.text.expose() != "0" => self.seconds(key, value),
                Meaning::Missed(why) if value.text.expose() != "false" => {
                    self.warnings.push(format!("{} has no effect: {why}", value.source));
                }
                _ => (),
            }
        }
    }

    fn seconds(&mut self, key: &str, value: &Value) {
        let seconds = value.text.expose().parse::<u64>().unwrap_or(MAX_SECONDS).min(MAX_SECONDS);
        self.set(key, Value { source: value.source.clone(), text: format!("{seconds}s").into() });
    }

    /// Sets the database. An address without a scheme is one of Redis.
    fn redis(&mut self, args: &RawArgs, Value { source, text }: &Value) {
        let text = text.expose().trim();
        let url = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        self.set(REDIS.1, Value { source: source.clone(), text: url.into() });
        for (variable, key) in [
            ("REDIS_USERNAME", "harness.redis.username"),
            ("REDIS_PASSWORD", "harness.redis.password"),
            ("METRICS_STREAM_MAX_LEN", "harness.redis.metrics_stream_length"),
        ] {
            if let Some(value) = args.last(variable).filter(|it| it.text.expose() != "0") {
                self.set(key, value.clone());
            }
        }
    }

    fn port(&mut self, args: &RawArgs) {
        let port = args.last("PORT");
        if let Some(Value { source, text }) = port {
            let address = format!("0.0.0.0:{}", text.expose());
            self.set("server.listen", Value { source: source.clone(), text: address.into() });
        }
        let other = args.last("PROMETHEUS_PORT");
        if let Some(other) = other.filter(|it| port.map(|port| &port.text) != Some(&it.text)) {
            self.warnings.push(format!("{} has no effect: metrics are at `/metrics` of PORT", other.source));
        }
    }

    fn log_level(&mut self, args: &RawArgs) {
        let Some(Value { source, text }) = args.last("LOG_LEVEL") else { return };
        let level = match text.expose().trim().to_ascii_uppercase().as_str() {
            "INFO" => "info",
            // Only that of our own crates: libraries write too much.
            "DEBUG" => "info,yardarm=debug",
            "WARN" | "WARNING" => "warn",
            "ERROR" => "error",
            _ => {
                self.warnings.push(format!("{source} must be ERROR, INFO or DEBUG; it is taken for INFO"));
                "info"
            }
        };
        self.set("log.level", Value { source: source.clone(), text: level.into() });
    }
}
