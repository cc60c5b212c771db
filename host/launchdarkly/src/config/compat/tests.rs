//! Files and variables of ld-relay, and the settings of Yardarm that they become.

use std::collections::BTreeMap;

use proptest::strategy::Strategy;
use yardarm_core::settings::{Reader, Values};

use super::table::{Meaning, ROWS, Section};
use super::*;
use crate::config::{Config, EnvironmentSource, KEYS};

fn translated(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Translation, String> {
    let variables: Vec<_> = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let file = file.map(|it| ("ld-relay.conf", it.as_bytes()));
    translate_text(file, !variables.is_empty(), &variables).map_err(|error| error.to_string())
}

/// Returns the settings by key, each with its source.
fn settings(file: Option<&str>, variables: &[(&str, &str)]) -> BTreeMap<String, (String, String)> {
    let all = translated(file, variables).unwrap().overrides;
    all.into_iter().map(|it| (it.key, (it.text.expose().to_owned(), it.source.to_string()))).collect()
}

fn text(file: Option<&str>, variables: &[(&str, &str)], key: &str) -> Option<String> {
    settings(file, variables).remove(key).map(|it| it.0)
}

fn error(file: Option<&str>, variables: &[(&str, &str)]) -> String {
    translated(file, variables).unwrap_err()
}

const ENV: &str = "[Environment \"a\"]\nsdkKey = sdk-a\n";

#[test]
fn keys_of_the_table_exist() {
    for row in ROWS {
        let (Meaning::Is(key) | Meaning::IfPositive(key)) = row.meaning else { continue };
        let path = match row.section {
            Section::Environment => format!("launchdarkly.environments[].{key}"),
            _ => key.to_owned(),
        };
        assert!(!path.starts_with("launchdarkly.") || KEYS.iter().any(|it| it.path == path), "{path}");
    }
}

#[test]
fn u129_names_of_sections_and_settings_have_any_case() {
    let file = "[ENVIRONMENT \"My Env\"]\nSDKKEY=sdk-1\n[main]\nPORT = 9000";
    let settings = settings(Some(file), &[]);
    assert_eq!(settings["launchdarkly.environments[0].name"].0, "My Env");
    assert_eq!(
        settings["launchdarkly.environments[0].sdk_key"],
        ("sdk-1".into(), "ld-relay.conf, line 2, column 1".into())
    );
    assert_eq!(settings["server.listen"].0, "0.0.0.0:9000");
}

#[test]
fn u130_unknown_names_are_errors_with_line_and_suggestion() {
    let file = format!("{ENV}[Main]\nUnknown = 1\nprot = 8030\n[Mian]\n[Main \"x\"]\n[Environment]\n");
    let expected = "Error loading config file: failed to read configuration file \"ld-relay.conf\": \
                    unsupported or misspelled section \"Main\", variable \"Unknown\" (ld-relay.conf, line 4), \
                    unsupported or misspelled section \"Main\", variable \"prot\"; did you mean \"port\"? \
                    (ld-relay.conf, line 5), \
                    unsupported or misspelled section \"Mian\"; did you mean \"Main\"? (ld-relay.conf, line 6), \
                    unsupported or misspelled section \"Main\", subsection \"x\" (ld-relay.conf, line 7), \
                    unsupported or misspelled section \"Environment\": a name must follow, such as [Environment \
                    \"name\"] (ld-relay.conf, line 8)";
    assert_eq!(error(Some(&file), &[]), expected);
    let syntax = error(Some("[Main\n"), &[]);
    assert!(
        syntax.ends_with("\"ld-relay.conf\": ld-relay.conf:1:6: expected subsection name or right bracket"),
        "{syntax}"
    );
}

#[test]
fn u131_to_u135_values_have_the_forms_of_the_reference() {
    let key = "launchdarkly.exit_on_error";
    assert_eq!(text(Some(&format!("{ENV}[Main]\nexitOnError")), &[], key).as_deref(), Some("true"));
    let file = format!("{ENV}[Main]\nheartbeatInterval = 15");
    let expected = "not a valid duration (must use format \"1ms\", \"1s\", \"1m\", etc.) at section \"Main\", variable \
                    \"heartbeatInterval\" (ld-relay.conf, line 4)";
    assert!(error(Some(&file), &[]).ends_with(expected), "{}", error(Some(&file), &[]));
    assert_eq!(
        error(None, &[("LD_ENV_a", "s"), ("PORT", "0")]),
        "Configuration error: PORT: value must be greater than zero"
    );
    let on = format!("{ENV}[Events]\nsendEvents = true\nmaxInboundPayloadSize = 50KB");
    assert_eq!(text(Some(&on), &[("USE_EVENTS", "")], "launchdarkly.send_events").as_deref(), Some("true"));
    assert_eq!(text(Some(&on), &[], "launchdarkly.events_max_payload").as_deref(), Some("51200"));
    let blank = error(Some(&format!("{ENV}[Main]\nport")), &[]);
    assert!(blank.contains("blank value not supported for type at section \"Main\", variable \"port\""), "{blank}");
}

#[test]
fn u136_u137_variables_win_over_the_file_and_lists_are_joined() {
    let file = format!("{ENV}allowedOrigin = https://one\nallowedOrigin = https://two\n[Main]\nport = 9000");
    let settings =
        settings(Some(&file), &[("LD_ENV_a", "sdk-b"), ("LD_ALLOWED_ORIGIN_a", "https://three"), ("PORT", "8030")]);
    assert_eq!(settings["launchdarkly.environments[0].allowed_origins"].0, "https://one,https://two,https://three");
    assert_eq!(settings["server.listen"], ("0.0.0.0:8030".into(), "variable PORT".into()));
    assert_eq!(settings["launchdarkly.environments[0].sdk_key"], ("sdk-b".into(), "variable LD_ENV_a".into()));
    let reset = text(Some(&file), &[("PORT", "")], "server.listen");
    assert_eq!(reset.as_deref(), Some("0.0.0.0:8030"), "an empty variable means the default");
}

#[test]
fn u138_the_file_may_be_completed_by_variables() {
    let file = "[Environment \"a\"]\nmobileKey = mob-1";
    assert_eq!(
        text(Some(file), &[("LD_ENV_a", "sdk-a")], "launchdarkly.environments[0].sdk_key").as_deref(),
        Some("sdk-a")
    );
    assert_eq!(error(Some(file), &[]), "Error loading config file: SDK key is required for environment \"a\"");
    let redis = format!("{ENV}[Redis]\nhost = one");
    let url = text(Some(&redis), &[("REDIS_HOST", "two"), ("REDIS_PORT", "1")], "launchdarkly.redis.url");
    assert_eq!(url.as_deref(), Some("redis://two:1"));
}

#[test]
fn u139_to_u141_redis_is_enabled_as_in_the_reference() {
    let key = "launchdarkly.redis.url";
    let env = ("LD_ENV_a", "sdk-a");
    for (variables, url) in [
        (&[env, ("USE_REDIS", "1"), ("REDIS_PORT", "tcp://h:6400")][..], Some("redis://h:6400")),
        (&[env, ("USE_REDIS", "1")], Some("redis://localhost:6379")),
        (&[env, ("USE_REDIS", "yes"), ("REDIS_PORT", "7")], Some("redis://localhost:7")),
        (&[env, ("USE_REDIS", "true"), ("REDIS_HOST", "h")], Some("redis://h:6379")),
        (&[env, ("USE_REDIS", "1"), ("REDIS_URL", "rediss://u:p@h:1/2")], Some("rediss://u:p@h:1/2")),
        (&[env, ("REDIS_HOST", "h")], None),
        (&[env, ("USE_REDIS", "0"), ("REDIS_URL", "redis://h")], None),
    ] {
        assert_eq!(text(None, variables, key).as_deref(), url, "{variables:?}");
    }
}

#[test]
fn dynamodb_and_consul_are_enabled_as_in_the_reference() {
    let env = ("LD_ENV_a", "sdk-a");
    let table = "launchdarkly.dynamodb.table_name";
    let file = format!("{ENV}tableName = own\n[DynamoDB]\ntableName = t\nurl = http://h:1");
    assert_eq!(text(Some(&file), &[], table), None, "the section alone does not enable it");
    let warnings = translated(Some(&file), &[]).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.contains("DynamoDB is not enabled")), "{warnings:?}");
    let enabled = settings(Some(&format!("{file}\nenabled")), &[]);
    assert_eq!((&*enabled[table].0, &*enabled["launchdarkly.dynamodb.url"].0), ("t", "http://h:1"));
    assert_eq!(enabled["launchdarkly.environments[0].table_name"].0, "own");
    let variables = [env, ("USE_DYNAMODB", "1"), ("LD_TABLE_NAME_a", "t2")];
    assert_eq!(text(None, &variables, "launchdarkly.environments[0].table_name").as_deref(), Some("t2"));
    let automatic = [("AUTO_CONFIG_KEY", "rel-1"), ("USE_DYNAMODB", "1"), ("ENV_DATASTORE_TABLE_NAME", "t-$CID")];
    let key = "launchdarkly.auto_config.datastore_table_name";
    assert_eq!(text(None, &automatic, key).as_deref(), Some("t-$CID"));
    assert_eq!(text(None, &[env, ("DYNAMODB_TABLE", "t")], table), None);

    let key = "launchdarkly.consul.host";
    for (variables, host) in [
        (&[env, ("USE_CONSUL", "true")][..], Some("localhost")),
        (&[env, ("USE_CONSUL", "true"), ("CONSUL_HOST", "h:1"), ("CONSUL_TOKEN", "t")], Some("h:1")),
        (&[env, ("USE_CONSUL", "true"), ("CONSUL_HTTP_SSL", "true")], Some("https://localhost")),
        (&[env, ("CONSUL_HOST", "h"), ("CONSUL_HTTP_SSL", "maybe")], None),
    ] {
        assert_eq!(text(None, variables, key).as_deref(), host, "{variables:?}");
    }
    let token = "launchdarkly.consul.token";
    let consul = [env, ("USE_CONSUL", "1"), ("CONSUL_TOKEN", "t"), ("CONSUL_HTTP_TOKEN", "of-the-library")];
    assert_eq!(text(None, &consul, token).as_deref(), Some("t"));
    let consul = [env, ("USE_CONSUL", "1"), ("CONSUL_HTTP_TOKEN", "of-the-library")];
    assert_eq!(text(None, &consul, token).as_deref(), Some("of-the-library"));
}

#[test]
fn u143_u144_contradictions_have_the_texts_of_the_reference() {
    let with = |more: &str| format!("{ENV}{more}");
    let two = format!("{ENV}[Environment \"b\"]\nsdkKey = sdk-b\n");
    for (file, expected) in [
        (with("[Main]\ntlsEnabled = true"), "TLS cert and key are required if TLS is enabled"),
        (
            with("[AutoConfig]\nenvAllowedOrigin = x"),
            "must specify auto-configuration key if other auto-configuration properties are set",
        ),
        (with("[AutoConfig]\nkey = rel-1"), "cannot configure specific environments if auto-configuration is enabled"),
        (
            "[AutoConfig]\nkey = rel-1\n[OfflineMode]\nfileDataSource = f".to_owned(),
            "cannot specify both auto-configuration key and file data source",
        ),
        (
            with("[OfflineMode]\nfileDataSourceMonitoringInterval = 1s"),
            "must specify offline mode filename if other offline mode properties are set",
        ),
        (
            with("[OfflineMode]\nfileDataSource = f"),
            "cannot configure specific environments if offline mode is enabled",
        ),
        ("[Environment \"x\"]".to_owned(), "SDK key is required for environment \"x\""),
        (
            "[OfflineMode]\nfileDataSource = f\nfileDataSourceMonitoringInterval = 99ms".to_owned(),
            "file data source monitoring interval must be >= 100ms",
        ),
        (
            with("[Main]\nexpiredCredentialCleanupInterval = 99ms"),
            "expired credential cleanup interval must be >= 100ms",
        ),
        (with("[Events]\nmaxInboundPayloadSize = 0B"), "max inbound payload size must be greater than zero"),
        (
            with("[Redis]\nhost = h\n[Consul]\nhost = c\n[DynamoDB]\nenabled = true"),
            "multiple databases are enabled (Redis, Consul, DynamoDB); only one is allowed",
        ),
        (with("[Redis]\nurl = redis://h\nport = 1"), "please specify Redis URL or host/port, but not both"),
        (with("[Redis]\nhost = \"a b\""), "invalid Redis hostname"),
        (
            with("[Consul]\nhost = c\ntoken = t\ntokenFile = f"),
            "Consul token must be specified as either an inline value or a file, but not both",
        ),
        (
            format!("{two}[Redis]\nhost = h"),
            "environment \"a\" does not have a prefix specified for database storage, environment \"b\" does not have a \
             prefix specified for database storage",
        ),
        (
            with("[DynamoDB]\nenabled"),
            "TableName property must be specified for DynamoDB, either globally or per environment",
        ),
        (
            format!("{two}prefix = p\n[DynamoDB]\nenabled"),
            "environment \"a\" does not have a prefix or table name specified for database storage",
        ),
        (
            "[AutoConfig]\nkey = rel-1\nenvDatastorePrefix = p\n[Redis]\nhost = h".to_owned(),
            "when using auto-configuration with database storage, database prefix (or, if using DynamoDB, table name) \
             must be specified and must contain \"$CID\"",
        ),
        (
            "[AutoConfig]\nkey = rel-1\n[Filters \"p\"]\nkeys = a".to_owned(),
            "cannot configure filters if auto-configuration is enabled",
        ),
        (with("[Filters \"p\"]\nkeys = a"), "when filters are configured, all environments must specify a 'projKey'"),
        (
            with("projKey = q\n[Filters \"p\"]\nkeys = a"),
            "filters are configured for project 'p', but no environment references that project",
        ),
        (with("projKey = p\n[Filters \"p\"]"), "filter key list for project 'p' cannot be empty"),
        (
            with("projKey = p\n[Filters \"p\"]\nkeys = a,"),
            "filter key [1] for project 'p' is malformed (note: lists are comma-delimited)",
        ),
        (
            with("[Proxy]\nntlmAuth = true\nuser = u\npassword = p"),
            "cannot specify proxy authentication without a proxy URL",
        ),
        (with("[Proxy]\nntlmAuth = true\nurl = http://h"), "NTLM proxy authentication requires username and password"),
        (
            with("[Main]\ntlsEnabled = yes\n[Redis]\nurl = redis://h\nhost = x"),
            "TLS cert and key are required if TLS is enabled, please specify Redis URL or host/port, but not both",
        ),
    ] {
        assert_eq!(error(Some(&file), &[]), format!("Error loading config file: {expected}"), "{file}");
    }
    assert_eq!(
        error(Some("[Main]\nport = 1"), &[]),
        "Unable to create relay: you must specify at least one environment in your configuration"
    );
    let warned = translated(Some(&with("[Redis]\nhost = h")), &[]).unwrap().warnings;
    assert_eq!(
        warned,
        [
            "environment \"a\" does not have a prefix specified for database storage; this would be an error if multiple \
          environments were configured"
        ]
    );
}

#[test]
fn u145_obsolete_variables_are_errors() {
    let env = ("LD_ENV_a", "sdk-a");
    for (variables, expected) in [
        (
            &[env, ("USE_REDIS", "1"), ("REDIS_TTL", "30")][..],
            "REDIS_TTL: this variable is no longer supported; use CACHE_TTL",
        ),
        (&[env, ("EVENTS_SAMPLING_INTERVAL", "1")], "EVENTS_SAMPLING_INTERVAL: this variable is no longer supported"),
        (&[env, ("LD_TTL_MINUTES_a", "1")], "LD_TTL_MINUTES_a: this variable is no longer supported; use LD_TTL_a"),
    ] {
        assert_eq!(error(None, variables), format!("Configuration error: {expected}"));
    }
    for variables in [&[env, ("REDIS_TTL", "30")][..], &[env, ("USE_REDIS", "1"), ("REDIS_TTL", "")]] {
        assert!(translated(None, variables).is_ok(), "{variables:?}");
    }
}

/// One valid value for each form, in a file that sets everything that one file can.
#[test]
fn u146_v038_a_file_with_every_setting_is_accepted_with_a_warning_for_each_that_is_unused() {
    use super::table::Form;
    let mut file = String::new();
    for section in Section::ALL {
        match section {
            Section::Environment => file.push_str("[Environment \"a\"]\n"),
            Section::Filters => file.push_str("[Filters \"p\"]\n"),
            // Exclude each other, as does one of the databases.
            Section::AutoConfig | Section::OfflineMode | Section::Consul | Section::DynamoDb => continue,
            _ => file.push_str(&format!("[{}]\n", section.name())),
        }
        for row in ROWS.iter().filter(|it| it.section == section && !it.name.is_empty()) {
            let value = match (row.section, row.name, row.form) {
                (Section::Redis, "host" | "port", _) => continue,
                (Section::Redis, "url", _) => "redis://localhost",
                (Section::Redis, "caFile" | "clientCertificateFile", _) => {
                    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/certificates/first.cert.pem")
                }
                (Section::Redis, "clientKeyFile", _) => {
                    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/certificates/first.key.pem")
                }
                (_, "projKey", _) => "p",
                (_, "sdkKey", _) => "sdk-a",
                (_, _, Form::Bool) => "true",
                (_, _, Form::Positive | Form::Natural) => "7",
                (_, _, Form::Duration) => "20s",
                (_, _, Form::Url) => "http://127.0.0.1:9",
                (_, _, Form::Text | Form::List) => "text",
                (_, _, Form::Level) => "warn",
                (_, _, Form::TlsVersion) => "1.3",
                (_, _, Form::LogFormat) => "text",
                (_, _, Form::Size) => "10KB",
            };
            file.push_str(&format!("{} = {value}\n", row.name));
        }
    }
    let Translation { overrides, warnings, .. } = translated(Some(&file), &[]).unwrap();
    let unused: Vec<_> = ROWS
        .iter()
        .filter(|it| matches!(it.meaning, Meaning::Missed(_)) && file.contains(&format!("\n{} = ", it.name)))
        .filter(|it| !matches!(it.section, Section::Consul | Section::DynamoDb | Section::AutoConfig))
        .map(|it| format!("[{}] {} (ld-relay.conf, line ", it.section.name(), it.name))
        .collect();
    for name in &unused {
        assert_eq!(warnings.iter().filter(|it| it.starts_with(name)).count(), 1, "{name}: {warnings:#?}");
    }
    let mut values = Values::default();
    values.add_overrides(overrides);
    let mut reader = Reader::new(&values, KEYS, &|_| None);
    let config = Config::read(&mut reader).unwrap();
    let errors = reader.into_errors();
    assert!(errors.is_empty(), "{errors:?}");
    let EnvironmentSource::Configured(environments) = &config.environments else { panic!("{config:?}") };
    assert_eq!((environments[0].name.as_str(), environments[0].filters.as_slice()), ("a", &["text".to_owned()][..]));
}

#[test]
fn u142_and_defaults_follow_the_reference() {
    let key = "launchdarkly.base_uri";
    for (base, expected) in [
        ("https://app.launchdarkly.com", None),
        ("https://sdk.launchdarkly.com/", None),
        ("https://own.example", Some("https://own.example")),
    ] {
        let file = format!("{ENV}[Main]\nbaseUri = {base}");
        assert_eq!(text(Some(&file), &[], key).as_deref(), expected);
    }
    let file = format!("{ENV}[Main]\nheartbeatInterval = 0\ninitTimeout = 61s\n[Prometheus]\nenabled");
    let settings = settings(Some(&file), &[]);
    assert_eq!(settings["launchdarkly.heartbeat_interval"].0, "1day");
    assert_eq!(settings["launchdarkly.prometheus.listen"].0, "0.0.0.0:8031");
    assert_eq!(settings["server.listen"].0, "0.0.0.0:8030");
    let warnings = translated(Some(&file), &[]).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.contains("longer than 60s")), "{warnings:?}");
}

proptest::proptest! {
    #[test]
    fn no_file_causes_a_panic(lines in proptest::collection::vec(
        proptest::prop_oneof![
            proptest::sample::select(vec!["[Main]", "[Environment \"a\"]", "[Redis]", "[Filters \"p\"]", "[Events]"])
                .prop_map(str::to_owned),
            proptest::sample::select(ROWS.iter().map(|it| it.name).collect::<Vec<_>>())
                .prop_map(|it| format!("{it} = 1s")),
            "\\PC{0,20}",
        ],
        0..20,
    )) {
        let _ = translated(Some(&lines.join("\n")), &[("USE_REDIS", "1")]);
    }
}

#[test]
fn v039_limits_of_deliveries_are_kept_in_their_ranges() {
    let limits = |concurrent: &str, queued: &str, timeout: &str| {
        let variables =
            [("INIT_MAX_CONCURRENT", concurrent), ("INIT_MAX_QUEUED", queued), ("INIT_SEND_TIMEOUT", timeout)];
        let translation = translated(Some(ENV), &variables).unwrap();
        let value = |key: &str| {
            let set = translation.overrides.iter().find(|it| it.key == key);
            set.map(|it| it.text.expose().to_owned())
        };
        let values =
            ["launchdarkly.max_deliveries", "launchdarkly.max_waiting_deliveries", "launchdarkly.delivery_timeout"]
                .map(value);
        (values, translation.warnings)
    };
    let some = |values: [&str; 3]| values.map(|it| Some(it.to_owned()));
    let (values, warnings) = limits("65536", "1000000", "5s");
    assert_eq!((values, warnings.len()), (some(["65536", "1000000", "5s"]), 0), "{warnings:?}");
    let (values, warnings) = limits("70000", "2000000", "1s");
    assert_eq!(values, some(["65536", "1000000", "5s"]));
    for (variable, warning) in ["INIT_MAX_CONCURRENT", "INIT_MAX_QUEUED", "INIT_SEND_TIMEOUT"].iter().zip(&warnings) {
        assert!(warning.contains(variable) && warning.contains("is used"), "{warning}");
    }
    assert_eq!(warnings.len(), 3);
}
