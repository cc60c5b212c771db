//! The table of the settings of ff-proxy, versions 1 and 2: their names, forms and meanings.

use std::fmt::Write;

/// One setting of ff-proxy.
#[derive(Debug)]
pub(super) struct Row {
    /// Name of the environment variable.
    pub(super) variable: &'static str,
    /// Name of the flag, without dashes.
    pub(super) flag: &'static str,
    pub(super) form: Form,
    pub(super) meaning: Meaning,
    /// Description for the help text, with the default.
    pub(super) about: &'static str,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Bool,
    /// A whole number from 0.
    Count,
    /// Texts separated by commas, which are not trimmed; those of flags and variable are joined.
    List,
}

/// The meaning of a setting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// The value of this key.
    Is(&'static str),
    /// The value of this key in seconds; 0 means never.
    Seconds(&'static str),
    /// The value of this key in seconds; 0 means the default.
    PositiveSeconds(&'static str),
    /// Handled by the translation itself.
    Own,
    /// No effect, without a warning.
    Nothing,
    /// No effect, with this warning.
    Missed(&'static str),
}

const fn row(variable: &'static str, flag: &'static str, form: Form, meaning: Meaning, about: &'static str) -> Row {
    Row { variable, flag, form, meaning, about }
}

const NONE: &str = "accepted, no effect";

/// All settings, in the order of the help text. Required ones come first, in the order in which errors list them.
pub(super) const ROWS: &[Row] = {
    use Form::{Bool, Count, List, Text};
    use Meaning::{Is, Missed, Nothing, Own, PositiveSeconds, Seconds};
    &[
        row(
            "ACCOUNT_IDENTIFIER",
            "account-identifier",
            Text,
            Is("harness.account"),
            "account, for the admin service; required",
        ),
        row(
            "ORG_IDENTIFIER",
            "org-identifier",
            Text,
            Is("harness.organization"),
            "organisation, for the admin service; required",
        ),
        row(
            "ADMIN_SERVICE_TOKEN",
            "admin-service-token",
            Text,
            Is("harness.admin_token"),
            "service account token, for the admin service; required",
        ),
        row("API_KEYS", "api-keys", List, Own, "one server API key per environment; required"),
        row("PROXY_KEY", "proxy-key", Text, Own, "proxy key, instead of the four above"),
        row(
            "ADMIN_SERVICE",
            "admin-service",
            Text,
            Is("harness.admin_service"),
            "lists hashes of keys, and targets [https://app.harness.io/gateway/cf]",
        ),
        row(
            "CLIENT_SERVICE",
            "client-service",
            Text,
            Is("harness.client_service"),
            "exchanges keys, registers targets [https://config.ff.harness.io/api/1.0]",
        ),
        row(
            "METRIC_SERVICE",
            "metric-service",
            Text,
            Is("harness.metric_service"),
            "takes metrics [https://events.ff.harness.io/api/1.0]",
        ),
        row(
            "SDK_BASE_URL",
            "sdk-base-url",
            Text,
            Is("harness.sync_service"),
            "flags are fetched and streamed from it [CLIENT_SERVICE]",
        ),
        row("SDK_EVENTS_URL", "sdk-events-url", Text, Nothing, NONE),
        row(
            "AUTH_SECRET",
            "auth-secret",
            Text,
            Is("harness.auth_secret"),
            "signs the tokens of SDKs; the well-known `secret` causes a warning [derived from the keys]",
        ),
        row("BYPASS_AUTH", "bypass-auth", Bool, Is("harness.bypass_auth"), "SDKs may read without a token [false]"),
        row(
            "TARGET_POLL_DURATION",
            "target-poll-duration",
            Count,
            Seconds("harness.target_poll_interval"),
            "seconds between downloads of targets; 0 is never [0]",
        ),
        row(
            "METRIC_POST_DURATION",
            "metric-post-duration",
            Count,
            Seconds("harness.metric_post_interval"),
            "seconds between posts of metrics; 0 is never [60]",
        ),
        row(
            "FORWARD_TARGETS",
            "forward-targets",
            Bool,
            Is("harness.forward_targets"),
            "targets that SDKs present are registered upstream [true; false with PROXY_KEY or READ_REPLICA]",
        ),
        row(
            "AND_RULES",
            "and-rules",
            Bool,
            Is("harness.and_rules"),
            "SDKs that ask for them get segment rules of which all clauses must match [true; false with PROXY_KEY or READ_REPLICA]",
        ),
        row(
            "FLAG_STREAM_ENABLED",
            "flag-stream-enabled",
            Bool,
            Is("harness.stream_enabled"),
            "changes are streamed; if not, they are polled [true]",
        ),
        row(
            "FLAG_POLL_INTERVAL",
            "flag-poll-interval",
            Count,
            PositiveSeconds("harness.flag_poll_interval"),
            "seconds between polls while there is no stream [60]",
        ),
        row(
            "OFFLINE",
            "offline",
            Bool,
            Own,
            "serves CONFIG_DIR, requests nothing from the network, requires nothing [false]",
        ),
        row(
            "GENERATE_OFFLINE_CONFIG",
            "generate-offline-config",
            Bool,
            Own,
            "writes CONFIG_DIR for OFFLINE, and ends [false]",
        ),
        row("CONFIG_DIR", "config-dir", Text, Own, "folder of offline files [/config]"),
        row("PORT", "port", Count, Own, "where SDKs connect [7000]"),
        row("TLS_ENABLED", "tls-enabled", Bool, Own, "SDKs must connect by HTTPS [false]"),
        row("TLS_CERT", "tls-cert", Text, Own, "certificate chain, PEM; required with TLS_ENABLED"),
        row("TLS_KEY", "tls-key", Text, Own, "its private key, PEM; required with TLS_ENABLED"),
        row("LOG_LEVEL", "log-level", Text, Own, "ERROR, INFO or DEBUG; JSON lines [INFO]"),
        row(
            "READ_REPLICA",
            "readReplica",
            Bool,
            Own,
            "serves what a primary writes to Redis, requests nothing from upstream [false]",
        ),
        row(
            "REDIS_ADDRESS",
            "redis-address",
            Text,
            Own,
            "host:port, redis://… or rediss://…; data is shared with read replicas; required with READ_REPLICA",
        ),
        row("REDIS_USERNAME", "redis-username", Text, Own, "user of Redis"),
        row("REDIS_PASSWORD", "redis-password", Text, Own, "password of Redis"),
        row("REDIS_DB", "redis-db", Count, Nothing, NONE),
        row("REDIS_POOL_SIZE", "redis-pool-size", Count, Nothing, NONE),
        row("HEARTBEAT_INTERVAL", "heartbeat-interval", Count, Nothing, NONE),
        row("PROMETHEUS_PORT", "prometheus-port", Count, Own, "accepted, no effect: metrics are at `/metrics` of PORT"),
        row(
            "METRICS_STREAM_MAX_LEN",
            "metrics-stream-max-len",
            Count,
            Own,
            "posts of metrics that wait in Redis at most [1000]",
        ),
        row("METRIC_STREAM_READ_CONCURRENCY", "metrics-stream-read-concurrency", Count, Nothing, NONE),
        row("PPROF", "pprof", Bool, Missed("there is no Go program to be profiled"), NONE),
        row(
            "GCP_PROFILER_ENABLED",
            "gcp-profiler-enabled",
            Bool,
            Missed("there is no Go program to be profiled"),
            NONE,
        ),
    ]
};

/// Returns the help text.
#[must_use]
pub fn usage() -> String {
    let mut text = String::from(
        "Runs the gateway with the settings of ff-proxy (Harness Relay Proxy), unchanged.\n\n\
         Usage: yardarm ff-proxy [--FLAG=VALUE …]      also as a program of the name `ff-proxy`\n\n\
         A variable that is not empty wins over its flag; API_KEYS and --api-keys are joined. No configuration file is\n\
         read. Every variable YARDARM_… applies as well and wins, such as YARDARM_PLUGINS_DIR, YARDARM_ADMIN_LISTEN and\n\
         YARDARM_DATA_DIR (last good data, for a start while Harness is down).\n\n\
         Exit codes: 0 after SIGTERM, or when offline files were written; 2 wrong usage; 1 everything else.\n\n",
    );
    for Row { variable, flag, form, about, .. } in ROWS {
        let value = match form {
            Form::Text => "TEXT",
            Form::Bool => "BOOL",
            Form::Count => "NUMBER",
            Form::List => "A,B,C",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  --{flag}={value}, {variable}\n        {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::KEYS;

    #[test]
    fn names_are_unique_and_keys_exist() {
        let names: BTreeSet<_> = ROWS.iter().flat_map(|it| [it.variable, it.flag]).collect();
        assert_eq!(names.len(), ROWS.len() * 2);
        for row in ROWS {
            assert!(usage().contains(row.variable) && usage().contains(&format!("--{}=", row.flag)), "{row:?}");
            if let Meaning::Is(path) | Meaning::Seconds(path) | Meaning::PositiveSeconds(path) = row.meaning {
                assert!(KEYS.iter().any(|it| it.path == path), "{path}");
            }
        }
    }
}
