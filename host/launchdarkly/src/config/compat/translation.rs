//! Turns the merged values of ld-relay into settings of Yardarm.

use std::time::Duration;

use yardarm_core::settings::{Bounds, CompatOverride, ValueSource};

use super::Translation;
use super::merge::{Set, Settings};
use super::table::{Meaning, Row, Section};
use super::values::{Value, positive};
use crate::config::KEYS;

/// Port of ld-relay.
const DEFAULT_PORT: u16 = 8030;
/// Port of its Prometheus exporter.
const DEFAULT_METRICS_PORT: u64 = 8031;
/// Values of `baseUri` that mean the default: the current one, and that of old versions.
const DEFAULT_BASES: [&str; 2] = ["https://sdk.launchdarkly.com", "https://app.launchdarkly.com"];
/// Range of `shutdown.timeout`, which the process declares.
const SHUTDOWN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
/// A longer `initTimeout` causes a warning, as in ld-relay.
const LONG_INIT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn translate(settings: &Settings) -> Translation {
    let mut translation = Translation { port: DEFAULT_PORT, ..Translation::default() };
    translation.defaults();
    for (row, owner, set) in settings.iter() {
        if is_enabled(settings, row.section) {
            translation.row(settings, row, owner, set);
        }
    }
    translation.main(settings);
    translation.common(settings);
    translation.environments(settings);
    translation.services(settings);
    translation
}

/// Returns whether the values of a section count.
fn is_enabled(settings: &Settings, section: Section) -> bool {
    match section {
        Section::Redis => settings.get(Section::Redis, "url").is_some(),
        Section::DynamoDb => settings.is_on(Section::DynamoDb, "enabled"),
        Section::Consul => settings.text(Section::Consul, "host").is_some(),
        _ => true,
    }
}

impl Translation {
    /// Sets what ld-relay does by default and Yardarm does not.
    fn defaults(&mut self) {
        let default = |key: &str, text: &str| CompatOverride {
            key: key.to_owned(),
            source: ValueSource::Default,
            text: text.into(),
        };
        self.overrides.extend([
            default("data.dir", ""),
            default("log.format", "go"),
            default("log.split_output", "true"),
            default("telemetry.service_name", "ld-relay"),
            // Contexts in URLs may be as large as a request head of Go's HTTP server.
            default("server.max_head", "1MiB"),
            default("shutdown.timeout", "30s"),
        ]);
    }

    pub(super) fn set(&mut self, key: &str, source: &ValueSource, text: impl Into<String>) {
        let text: String = text.into();
        self.overrides.push(CompatOverride { key: key.to_owned(), source: source.clone(), text: text.into() });
    }

    fn row(&mut self, settings: &Settings, row: &Row, owner: &str, set: &Set) {
        if let Some(why) = row.missed_effect(set) {
            self.warnings.push(format!("{} has no effect: {why}", row.shown(set)));
        }
        let (Meaning::Is(key) | Meaning::IfPositive(key)) = row.meaning else { return };
        let path = match row.section {
            Section::Environment => {
                let Some(index) = settings.environments.iter().position(|it| it == owner) else { return };
                format!("launchdarkly.environments[{index}].{key}")
            }
            _ => key.to_owned(),
        };
        match &set.value {
            Value::Bool(value) => self.set(&path, &set.source, value.to_string()),
            Value::Number(value) => self.number(&path, row, set, *value, key),
            Value::Text(text) if text.is_empty() => (),
            Value::Text(text) => self.set(&path, &set.source, text),
            Value::Word(word) => self.set(&path, &set.source, *word),
            Value::List(list) => self.set(&path, &set.source, list.join(",")),
            Value::Duration(nanoseconds) => {
                let is_optional = matches!(row.meaning, Meaning::IfPositive(_));
                match positive(*nanoseconds) {
                    None if is_optional => (),
                    value => self.duration(&path, row, set, value.unwrap_or_default(), bounds_of(row, key)),
                }
            }
        }
    }

    /// Sets a number, or the nearest one in the range of the key, with a warning.
    fn number(&mut self, path: &str, row: &Row, set: &Set, value: u64, key: &str) {
        let allowed = match bounds(row, key) {
            Some(Bounds::Count(min, max)) => value.clamp(min, max),
            _ => value,
        };
        if allowed != value {
            self.warnings.push(format!("{} is outside the range of `{path}`; {allowed} is used", row.shown(set)));
        }
        self.set(path, &set.source, allowed.to_string());
    }

    /// Sets a duration, or the nearest one in the range of the key, with a warning.
    fn duration(&mut self, path: &str, row: &Row, set: &Set, value: Duration, (min, max): (Duration, Duration)) {
        let allowed = value.clamp(min, max);
        if allowed != value {
            let allowed = humantime::format_duration(allowed);
            self.warnings.push(format!("{} is outside the range of `{path}`; {allowed} is used", row.shown(set)));
        }
        self.set(path, &set.source, humantime::format_duration(allowed).to_string());
    }

    fn main(&mut self, settings: &Settings) {
        let port = settings.get(Section::Main, "port");
        if let Some(Set { value: Value::Number(port), source }) = port {
            self.port = u16::try_from(*port).unwrap_or(0);
            self.set("server.listen", source, format!("0.0.0.0:{port}"));
        } else {
            self.set("server.listen", &ValueSource::Default, format!("0.0.0.0:{DEFAULT_PORT}"));
        }
        if let Some((base, source)) = settings.text(Section::Main, "baseUri")
            && !DEFAULT_BASES.contains(&base.trim_end_matches('/'))
        {
            self.set("launchdarkly.base_uri", source, base);
        }
        for (row, _, set) in settings.iter() {
            match (row.section, row.name, row.variable, &set.value) {
                // Without heartbeats, as rarely as possible.
                (Section::Main, "heartbeatInterval", _, Value::Duration(time)) => {
                    let value = positive(*time).unwrap_or(Duration::from_secs(24 * 3600));
                    let key = "launchdarkly.heartbeat_interval";
                    self.duration(key, row, set, value, bounds_of(row, key));
                }
                (Section::Main, "gracefulShutdownTimeout", _, Value::Duration(time)) => {
                    self.duration("shutdown.timeout", row, set, positive(*time).unwrap_or_default(), SHUTDOWN);
                }
                (Section::Main, "initTimeout", _, Value::Duration(time))
                    if positive(*time).is_some_and(|it| it > LONG_INIT_TIMEOUT) =>
                {
                    self.warnings.push(format!(
                        "{} is longer than 60s: SDKs of an environment without data are answered 503 for that time",
                        row.shown(set)
                    ));
                }
                (Section::Main, "logLevel", _, Value::Word(level)) => {
                    self.set("log.level", &set.source, self::level(level));
                    if *level == "none" {
                        self.warnings.push(format!("{}: errors are logged nevertheless", row.shown(set)));
                    }
                }
                (Section::Main, "", "LOG_FORMAT", Value::Word("json")) => self.set("log.format", &set.source, "json"),
                (Section::Main, "tlsMinVersion", _, Value::Word(version)) => {
                    let is_old = matches!(*version, "1.0" | "1.1");
                    if is_old {
                        self.warnings.push(format!(
                            "{}: clients must use TLS 1.2 or newer, older versions are not safe",
                            row.shown(set)
                        ));
                    }
                    self.set("server.tls.min_version", &set.source, if is_old { "1.2" } else { *version });
                }
                _ => (),
            }
        }
        if settings.is_on(Section::Main, "tlsEnabled") {
            for (name, key) in [("tlsCert", "server.tls.cert"), ("tlsKey", "server.tls.key")] {
                if let Some((path, source)) = settings.text(Section::Main, name) {
                    self.set(key, source, path);
                }
            }
        }
    }

    /// Translates what is common to all environments that are not configured one by one.
    fn common(&mut self, settings: &Settings) {
        for (section, key) in [(Section::AutoConfig, "auto_config"), (Section::OfflineMode, "offline")] {
            for (name, field) in [
                ("envDatastorePrefix", "datastore_prefix"),
                ("envAllowedOrigin", "allowed_origins"),
                ("envAllowedHeader", "allowed_headers"),
            ] {
                let path = format!("launchdarkly.{key}.{field}");
                match settings.get(section, name) {
                    Some(Set { value: Value::Text(text), source }) if !text.is_empty() => {
                        self.set(&path, source, text);
                    }
                    Some(Set { value: Value::List(list), source }) => self.set(&path, source, list.join(",")),
                    _ => (),
                }
            }
            if let Some((table, source)) = settings.text(section, "envDatastoreTableName") {
                let path = format!("launchdarkly.{key}.datastore_table_name");
                self.table(settings, path, table, source, "envDatastoreTableName");
            }
        }
    }

    /// Sets a table, which counts with DynamoDB only.
    fn table(&mut self, settings: &Settings, path: String, table: &str, source: &ValueSource, name: &str) {
        if is_enabled(settings, Section::DynamoDb) {
            self.set(&path, source, table);
        } else {
            self.warnings.push(format!("{name} ({source}) has no effect: DynamoDB is not enabled"));
        }
    }

    fn environments(&mut self, settings: &Settings) {
        for (index, name) in settings.environments.iter().enumerate() {
            let Some((_, source)) = settings.text_in(Section::Environment, name, "sdkKey") else { continue };
            self.set(&format!("launchdarkly.environments[{index}].name"), source, name);
            if let Some((table, source)) = settings.text_in(Section::Environment, name, "tableName") {
                let path = format!("launchdarkly.environments[{index}].table_name");
                self.table(settings, path, table, source, "tableName");
            }
            let project = settings.text_in(Section::Environment, name, "projKey").map(|it| it.0);
            let filters = project.and_then(|it| settings.get_in(Section::Filters, it, "keys"));
            if let Some(Set { value: Value::List(keys), source }) = filters {
                self.set(&format!("launchdarkly.environments[{index}].filters"), source, keys.join(","));
            }
        }
    }

    /// Translates the database and the exporters of metrics.
    fn services(&mut self, settings: &Settings) {
        const IDLE: &str = "launchdarkly.outbound.max_idle_per_host";
        if let Some(Set { value: Value::Number(count), source }) = settings.get(Section::Http, "maxIdleConnsPerHost") {
            self.set(IDLE, source, count.min(&10_000).to_string());
        }
        if let Some(set) = settings.get(Section::Http, "disableKeepAlives").filter(|it| it.value == Value::Bool(true)) {
            self.set(IDLE, &set.source, "0");
        }
        if let Some((url, source)) = settings.text(Section::Redis, "url") {
            self.set("launchdarkly.redis.url", source, url);
        }
        self.consul(settings);
        self.telemetry(settings);
        if !settings.is_on(Section::Prometheus, "enabled") {
            return;
        }
        let Some(enabled) = settings.get(Section::Prometheus, "enabled") else { return };
        let (port, source) = match settings.get(Section::Prometheus, "port") {
            Some(Set { value: Value::Number(port), source }) => (*port, source),
            _ => (DEFAULT_METRICS_PORT, &enabled.source),
        };
        self.set("launchdarkly.prometheus.listen", source, format!("0.0.0.0:{port}"));
        if let Some((prefix, source)) = settings.text(Section::Prometheus, "prefix") {
            self.set("launchdarkly.prometheus.prefix", source, prefix);
        }
    }
}

impl Translation {
    /// Translates the address of Consul, and the variables that Consul's client library reads by itself.
    fn consul(&mut self, settings: &Settings) {
        let Some((host, source)) = settings.text(Section::Consul, "host") else { return };
        let is_tls = settings.is_on(Section::Consul, "CONSUL_HTTP_SSL") && !host.contains("://");
        // The library has no default port with a scheme.
        let host = if is_tls { format!("https://{host}") } else { host.to_owned() };
        self.set("launchdarkly.consul.host", source, host);
        if ["token", "tokenFile"].iter().any(|it| settings.text(Section::Consul, it).is_some()) {
            return;
        }
        for (name, key) in [("CONSUL_HTTP_TOKEN_FILE", "token_file"), ("CONSUL_HTTP_TOKEN", "token")] {
            if let Some((value, source)) = settings.text(Section::Consul, name) {
                self.set(&format!("launchdarkly.consul.{key}"), source, value);
                return;
            }
        }
    }
}

/// Returns the range of a key of LaunchDarkly's side, if it has one.
fn bounds(row: &Row, key: &str) -> Option<Bounds> {
    let path = match row.section {
        Section::Environment => format!("launchdarkly.environments[].{key}"),
        _ => key.to_owned(),
    };
    KEYS.iter().find(|it| it.path == path).and_then(|it| it.bounds)
}

/// Returns the range of a key with a duration.
fn bounds_of(row: &Row, key: &str) -> (Duration, Duration) {
    match bounds(row, key) {
        Some(Bounds::Duration(min, max)) => (min, max),
        _ => (Duration::ZERO, Duration::MAX),
    }
}

/// Returns the filter of the log for a level. `none` does not exist here: errors are always logged.
fn level(level: &str) -> &'static str {
    match level {
        // Only that of our own crates: libraries write too much.
        "debug" => "info,yardarm=debug",
        "warn" => "warn",
        "error" | "none" => "error",
        _ => "info",
    }
}
