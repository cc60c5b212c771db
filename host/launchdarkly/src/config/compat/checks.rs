//! Rules about several settings, with the error texts of ld-relay (U143, U144).

use super::merge::{Set, Settings};
use super::table::Section;
use super::values::Value;

const MIN_INTERVAL: i64 = 100_000_000;
const PLACEHOLDER: &str = "$CID";

/// What the rules have found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Checks all rules, in the order of ld-relay, and replaces host and port of Redis by a URL.
pub(super) fn check(settings: &mut Settings) -> Findings {
    let mut findings = Findings::default();
    findings.tls(settings);
    findings.source_of_environments(settings);
    findings.redis(settings);
    findings.databases(settings);
    findings.filters(settings);
    findings.proxy(settings);
    findings.intervals(settings);
    findings
}

impl Findings {
    fn error(&mut self, text: impl Into<String>) {
        self.errors.push(text.into());
    }

    fn tls(&mut self, settings: &Settings) {
        let is_missing = |name| settings.text(Section::Main, name).is_none();
        if settings.is_on(Section::Main, "tlsEnabled") && (is_missing("tlsCert") || is_missing("tlsKey")) {
            self.error("TLS cert and key are required if TLS is enabled");
        }
    }

    fn source_of_environments(&mut self, settings: &Settings) {
        let has_key = settings.text(Section::AutoConfig, "key").is_some();
        let has_file = settings.text(Section::OfflineMode, "fileDataSource").is_some();
        let has_environments = !settings.environments.is_empty();
        let cache = ["cacheKey", "cacheEncryptionKey"];
        if !has_key && (has_common(settings, Section::AutoConfig, &cache)) {
            self.error("must specify auto-configuration key if other auto-configuration properties are set");
        }
        if has_key && has_environments {
            self.error("cannot configure specific environments if auto-configuration is enabled");
        }
        if !has_file && has_common(settings, Section::OfflineMode, &["fileDataSourceMonitoringInterval"]) {
            self.error("must specify offline mode filename if other offline mode properties are set");
        }
        if has_file && has_key {
            self.error("cannot specify both auto-configuration key and file data source");
        }
        if has_file && has_environments {
            self.error("cannot configure specific environments if offline mode is enabled");
        }
        for name in &settings.environments {
            if settings.text_in(Section::Environment, name, "sdkKey").is_none() {
                self.error(format!("SDK key is required for environment {name:?}"));
            }
        }
    }

    fn redis(&mut self, settings: &mut Settings) {
        let port = settings.get(Section::Redis, "port").cloned();
        let host = settings.text(Section::Redis, "host").map(|(text, source)| (text.to_owned(), source.clone()));
        let Some(source) = host.as_ref().map(|it| &it.1).or(port.as_ref().map(|it| &it.source)).cloned() else {
            return;
        };
        if settings.get(Section::Redis, "url").is_some() {
            self.error("please specify Redis URL or host/port, but not both");
            return;
        }
        let host = host.map_or_else(|| "localhost".to_owned(), |it| it.0);
        let port = match port.map(|it| it.value) {
            Some(Value::Number(port)) => port,
            _ => 6379,
        };
        let url = format!("redis://{host}:{port}");
        let is_usable = url::Url::parse(&url).is_ok_and(|it| it.host_str().is_some_and(|it| !it.is_empty()));
        if !is_usable {
            self.error("invalid Redis hostname");
            return;
        }
        settings.remove(Section::Redis, "host");
        settings.remove(Section::Redis, "port");
        settings.put_url(url, source);
    }

    fn databases(&mut self, settings: &Settings) {
        let is_dynamo = settings.is_on(Section::DynamoDb, "enabled");
        let all = [
            ("Redis", settings.get(Section::Redis, "url").is_some()),
            ("Consul", settings.text(Section::Consul, "host").is_some()),
            ("DynamoDB", is_dynamo),
        ];
        let enabled: Vec<_> = all.into_iter().filter(|it| it.1).map(|it| it.0).collect();
        let has_cache = settings.text(Section::AutoConfig, "cacheKey").is_some();
        let has_cache_table = settings.text(Section::DynamoDb, "tableName").is_some();
        if has_cache && !(enabled == ["Redis"] || is_dynamo && has_cache_table) {
            self.error(
                "auto-configuration cache key requires Redis, or DynamoDB with a table name, as the database storage",
            );
        }
        match enabled[..] {
            [] => return,
            [_] => (),
            _ => {
                let list = enabled.join(", ");
                return self.error(format!("multiple databases are enabled ({list}); only one is allowed"));
            }
        }
        let is_given = |name| settings.text(Section::Consul, name).is_some();
        if is_given("token") && is_given("tokenFile") {
            self.error("Consul token must be specified as either an inline value or a file, but not both");
        }
        let is_distinct = |owner: &str| {
            let has = |name| settings.text_in(Section::Environment, owner, name).is_some();
            has("prefix") || is_dynamo && has("tableName")
        };
        let what = if is_dynamo { "prefix or table name" } else { "prefix" };
        for name in settings.environments.iter().filter(|it| !is_distinct(it)) {
            let text = format!("environment {name:?} does not have a {what} specified for database storage");
            if settings.environments.len() > 1 {
                self.error(text);
            } else {
                self.warnings.push(format!("{text}; this would be an error if multiple environments were configured"));
            }
        }
        let has_placeholder =
            |name| settings.text(Section::AutoConfig, name).is_some_and(|it| it.0.contains(PLACEHOLDER));
        let is_separate =
            has_placeholder("envDatastorePrefix") || is_dynamo && has_placeholder("envDatastoreTableName");
        if settings.environments.is_empty() && settings.text(Section::AutoConfig, "key").is_some() && !is_separate {
            self.error(
                "when using auto-configuration with database storage, database prefix (or, if using DynamoDB, table \
                 name) must be specified and must contain \"$CID\"",
            );
        }
        // ld-relay notices it when an environment starts, and thus after everything else.
        if is_dynamo && self.errors.is_empty() && has_no_table(settings) {
            self.error("TableName property must be specified for DynamoDB, either globally or per environment");
        }
    }

    fn filters(&mut self, settings: &Settings) {
        if settings.filters.is_empty() {
            return;
        }
        if settings.text(Section::AutoConfig, "key").is_some() {
            return self.error("cannot configure filters if auto-configuration is enabled");
        }
        let project = |name: &String| settings.text_in(Section::Environment, name, "projKey").map(|it| it.0);
        if settings.environments.iter().any(|it| project(it).is_none()) {
            return self.error("when filters are configured, all environments must specify a 'projKey'");
        }
        for filter in &settings.filters {
            if !settings.environments.iter().any(|it| project(it) == Some(filter)) {
                self.error(format!(
                    "filters are configured for project '{filter}', but no environment references that project"
                ));
                continue;
            }
            let keys = match settings.get_in(Section::Filters, filter, "keys") {
                Some(Set { value: Value::List(keys), .. }) => keys.as_slice(),
                _ => &[],
            };
            if keys.is_empty() {
                self.error(format!("filter key list for project '{filter}' cannot be empty"));
            }
            for index in (0..keys.len()).filter(|it| keys[*it].is_empty()) {
                self.error(format!(
                    "filter key [{index}] for project '{filter}' is malformed (note: lists are comma-delimited)"
                ));
            }
        }
    }

    fn proxy(&mut self, settings: &Settings) {
        if !settings.is_on(Section::Proxy, "ntlmAuth") {
            return;
        }
        let has = |name| settings.text(Section::Proxy, name).is_some();
        if !has("url") {
            self.error("cannot specify proxy authentication without a proxy URL");
        } else if !has("user") || !has("password") {
            self.error("NTLM proxy authentication requires username and password");
        }
    }

    fn intervals(&mut self, settings: &Settings) {
        let is_short = |section, name| match settings.get(section, name).map(|it| &it.value) {
            Some(Value::Duration(nanoseconds)) => *nanoseconds < MIN_INTERVAL,
            _ => false,
        };
        let is_zero = |section, name| settings.get(section, name).map(|it| &it.value) == Some(&Value::Number(0));
        if is_short(Section::OfflineMode, "fileDataSourceMonitoringInterval") {
            self.error("file data source monitoring interval must be >= 100ms");
        }
        if is_short(Section::Main, "expiredCredentialCleanupInterval") {
            self.error("expired credential cleanup interval must be >= 100ms");
        }
        if is_zero(Section::Events, "maxInboundPayloadSize") {
            self.error("max inbound payload size must be greater than zero");
        }
        if is_zero(Section::Main, "maxClientRequestBodySize") {
            self.error("max client request body size must be greater than zero");
        }
    }
}

/// Returns whether an environment has no table in DynamoDB.
fn has_no_table(settings: &Settings) -> bool {
    let common = [
        (Section::DynamoDb, "tableName"),
        (Section::AutoConfig, "envDatastoreTableName"),
        (Section::OfflineMode, "envDatastoreTableName"),
    ];
    let has_own = |name: &String| settings.text_in(Section::Environment, name, "tableName").is_some();
    let has_common = common.into_iter().any(|(section, name)| settings.text(section, name).is_some());
    !has_common && (settings.environments.is_empty() || !settings.environments.iter().all(has_own))
}

/// Returns whether a setting that is common to all environments of a section, or one of `more`, is set.
fn has_common(settings: &Settings, section: Section, more: &[&str]) -> bool {
    let common = ["envDatastorePrefix", "envDatastoreTableName", "envAllowedOrigin", "envAllowedHeader"];
    common.iter().chain(more).any(|name| match settings.get(section, name).map(|it| &it.value) {
        Some(Value::Text(text)) => !text.is_empty(),
        Some(Value::List(list)) => !list.is_empty(),
        Some(_) => true,
        None => false,
    })
}
