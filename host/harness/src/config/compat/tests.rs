use yardarm_core::settings::{Reader, Values};

use super::*;
use crate::config::{Config, KEYS};

/// The settings that an online relay requires.
const REQUIRED: [(&str, &str); 4] = [
    ("ACCOUNT_IDENTIFIER", "acc"),
    ("ORG_IDENTIFIER", "org"),
    ("ADMIN_SERVICE_TOKEN", "admin-canary"),
    ("API_KEYS", "k1,k2"),
];

fn pairs(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn translated(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Translation, CompatError> {
    let arguments: Vec<_> = arguments.iter().map(|it| (*it).to_owned()).collect();
    translate(&arguments, &pairs(variables))
}

/// Translates with the required settings.
fn online(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Translation, CompatError> {
    translated(arguments, &[&REQUIRED[..], variables].concat())
}

fn value(translation: &Translation, key: &str) -> Option<String> {
    let compat_override = translation.overrides.iter().rfind(|it| it.key == key)?;
    Some(format!("{} ({})", compat_override.text.expose(), compat_override.source))
}

#[test]
fn weak_secrets_are_rejected_outside_of_the_compatibility_mode() {
    for (secret, is_compatible, is_refused) in [
        ("secret", false, true),
        ("sesam", false, true),
        ("12345678", false, false),
        ("a secret of more than 32 bytes, as it should be", false, false),
        ("secret", true, false),
        ("x", true, false),
    ] {
        let harness = serde_json::json!({"harness": {
            "auth_secret": secret, "ff_proxy_tokens": is_compatible, "proxy_key": "p",
        }});
        let mut values = Values::default();
        values.add_file(&harness, KEYS).unwrap();
        let mut reader = Reader::new(&values, KEYS, &|_| None);
        Config::read(&mut reader).expect("a source");
        let errors: Vec<_> = reader.into_errors().into_iter().map(|it| it.key).collect();
        let expected: &[&str] = if is_refused { &["harness.auth_secret"] } else { &[] };
        assert_eq!(errors, expected, "{secret} {is_compatible}");
    }
}

#[test]
fn every_setting_sets_its_key() {
    let default = online(&[], &[]).unwrap();
    for (key, expected) in [
        ("server.listen", Some("0.0.0.0:7000 (default)")),
        ("log.format", Some("json (default)")),
        ("server.max_head", Some("1MiB (default)")),
        ("data.dir", Some(" (default)")),
        ("harness.account", Some("acc (variable ACCOUNT_IDENTIFIER)")),
        ("harness.organization", Some("org (variable ORG_IDENTIFIER)")),
        ("harness.admin_token", Some("admin-canary (variable ADMIN_SERVICE_TOKEN)")),
        ("harness.environments[0].api_key", Some("k1 (variable API_KEYS)")),
        ("harness.environments[1].api_key", Some("k2 (variable API_KEYS)")),
        ("harness.environments[2].api_key", None),
        ("harness.offline.dir", None),
        ("server.tls.cert", None),
    ] {
        assert_eq!(value(&default, key).as_deref(), expected, "{key}");
    }
    assert_eq!((default.warnings.len(), &default.export), (0, &None));
    for (arguments, variable, key, expected) in [
        (&[][..], ("ADMIN_SERVICE", "https://a"), "harness.admin_service", "https://a (variable ADMIN_SERVICE)"),
        (&[], ("CLIENT_SERVICE", "https://c"), "harness.client_service", "https://c (variable CLIENT_SERVICE)"),
        (&[], ("METRIC_SERVICE", "https://m"), "harness.metric_service", "https://m (variable METRIC_SERVICE)"),
        (&[], ("SDK_BASE_URL", "https://s"), "harness.sync_service", "https://s (variable SDK_BASE_URL)"),
        (&[], ("AUTH_SECRET", "x"), "harness.auth_secret", "x (variable AUTH_SECRET)"),
        (&[], ("BYPASS_AUTH", "t"), "harness.bypass_auth", "true (variable BYPASS_AUTH)"),
        (&[], ("FORWARD_TARGETS", "0"), "harness.forward_targets", "false (variable FORWARD_TARGETS)"),
        (&[], ("AND_RULES", "F"), "harness.and_rules", "false (variable AND_RULES)"),
        (&[], ("FLAG_STREAM_ENABLED", "false"), "harness.stream_enabled", "false (variable FLAG_STREAM_ENABLED)"),
        (&[], ("FLAG_POLL_INTERVAL", "1"), "harness.flag_poll_interval", "1s (variable FLAG_POLL_INTERVAL)"),
        (&[], ("TARGET_POLL_DURATION", "0"), "harness.target_poll_interval", "0s (variable TARGET_POLL_DURATION)"),
        (
            &[],
            ("METRIC_POST_DURATION", "99999999"),
            "harness.metric_post_interval",
            "86400s (variable METRIC_POST_DURATION)",
        ),
        (&[], ("PORT", "8000"), "server.listen", "0.0.0.0:8000 (variable PORT)"),
        (&[], ("LOG_LEVEL", "DEBUG"), "log.level", "info,yardarm=debug (variable LOG_LEVEL)"),
        (&[], ("LOG_LEVEL", "error"), "log.level", "error (variable LOG_LEVEL)"),
        (&["--port=1"], ("PORT", ""), "server.listen", "0.0.0.0:1 (argument --port)"),
        (&["-port=1"], ("PORT", "2"), "server.listen", "0.0.0.0:2 (variable PORT)"),
        (&["--port", "1"], ("PORT", ""), "server.listen", "0.0.0.0:1 (argument --port)"),
        (&["-bypass-auth", "--port=3"], ("PORT", ""), "harness.bypass_auth", "true (argument --bypass-auth)"),
        (&["--bypass-auth=0"], ("PORT", ""), "harness.bypass_auth", "false (argument --bypass-auth)"),
    ] {
        let translation = online(arguments, &[variable]).unwrap();
        assert_eq!(value(&translation, key).as_deref(), Some(expected), "{arguments:?} {variable:?}");
    }
    assert_eq!(value(&online(&[], &[("FLAG_POLL_INTERVAL", "0")]).unwrap(), "harness.flag_poll_interval"), None);
}

#[test]
fn version_2_forwards_no_targets_and_sends_no_rules_with_and_unless_asked() {
    let translated = |variables: &[(&str, &str)]| {
        let variables: Vec<_> = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        translate(&[], &variables).unwrap()
    };
    let replica = [("READ_REPLICA", "true"), ("REDIS_ADDRESS", "redis:6379")];
    for (variables, forwards, sends) in [
        (&[("PROXY_KEY", "p")][..], Some("false (default)"), Some("false (default)")),
        (&replica, Some("false (default)"), Some("false (default)")),
        (&[("PROXY_KEY", "p"), ("AND_RULES", "true")], Some("false (default)"), Some("true (variable AND_RULES)")),
        (&[("PROXY_KEY", "p"), ("YARDARM_HARNESS_FORWARD_TARGETS", "true")], None, Some("false (default)")),
    ] {
        let translation = translated(variables);
        assert_eq!(value(&translation, "harness.forward_targets").as_deref(), forwards, "{variables:?}");
        assert_eq!(value(&translation, "harness.and_rules").as_deref(), sends, "{variables:?}");
    }
    assert_eq!(value(&online(&[], &[]).unwrap(), "harness.forward_targets"), None);
}

#[test]
fn keys_of_flags_and_variable_are_joined() {
    let translation = online(&["--api-keys=a,b", "--api-keys=c,"], &[]).unwrap();
    let keys: Vec<_> = translation.overrides.iter().filter(|it| it.key.ends_with(".api_key")).collect();
    let texts: Vec<_> = keys.iter().map(|it| format!("{} {} {}", it.key, it.text.expose(), it.source)).collect();
    assert_eq!(
        texts,
        [
            "harness.environments[0].api_key a argument --api-keys",
            "harness.environments[1].api_key b argument --api-keys",
            "harness.environments[2].api_key c argument --api-keys",
            "harness.environments[3].api_key k1 variable API_KEYS",
            "harness.environments[4].api_key k2 variable API_KEYS",
        ]
    );
    assert!(!format!("{translation:?}").contains("canary"), "no secret is printed");
}

#[test]
fn offline_needs_nothing_and_generating_wins_over_it() {
    let offline = translated(&["--offline"], &[("API_KEYS", "k")]).unwrap();
    assert_eq!(value(&offline, "harness.offline.dir").as_deref(), Some("/config (default)"));
    assert_eq!(value(&offline, "harness.environments[0].api_key"), None);
    let elsewhere = translated(&[], &[("OFFLINE", "1"), ("CONFIG_DIR", "/else")]).unwrap();
    assert_eq!(value(&elsewhere, "harness.offline.dir").as_deref(), Some("/else (variable CONFIG_DIR)"));
    let generating = [("OFFLINE", "true"), ("GENERATE_OFFLINE_CONFIG", "true"), ("CONFIG_DIR", "/out")];
    let generated = online(&[], &generating).unwrap();
    assert_eq!(generated.export.as_deref(), Some(std::path::Path::new("/out")));
    assert_eq!(value(&generated, "harness.offline.dir"), None);
    assert_eq!(value(&generated, "server.listen").as_deref(), Some("127.0.0.1:0 (default)"));
    assert!(translated(&[], &generating).is_err(), "it needs the network");
}

#[test]
fn a_proxy_key_replaces_the_settings_of_version_1() {
    let alone = translated(&["--proxy-key=p"], &[]).unwrap();
    assert_eq!(value(&alone, "harness.proxy_key").as_deref(), Some("p (argument --proxy-key)"));
    assert!(!format!("{alone:?}").contains("\"p\""), "no secret is printed");
    let both = online(&[], &[("PROXY_KEY", "p")]).unwrap();
    assert_eq!(value(&both, "harness.environments[0].api_key"), None);
    assert_eq!(both.warnings, ["API_KEYS has no effect beside PROXY_KEY"]);
    assert_eq!(value(&translated(&["--offline"], &[("PROXY_KEY", "p")]).unwrap(), "harness.proxy_key"), None);
    assert!(translated(&[], &[("YARDARM_HARNESS_PROXY_KEY", "p")]).is_ok(), "by either name");
}

#[test]
fn all_errors_are_reported_at_once_and_without_values() {
    // F111
    let missing = |names: &[&'static str]| Some(CompatError::Missing(names.to_vec()));
    let usage = |lines: &[&str]| Some(CompatError::Usage(lines.iter().map(|it| (*it).to_owned()).collect()));
    for (arguments, variables, expected) in [
        (&[][..], &[][..], missing(&["ACCOUNT_IDENTIFIER", "ORG_IDENTIFIER", "ADMIN_SERVICE_TOKEN", "API_KEYS"])),
        (
            &["--api-keys=k"],
            &[("ORG_IDENTIFIER", "")],
            missing(&["ACCOUNT_IDENTIFIER", "ORG_IDENTIFIER", "ADMIN_SERVICE_TOKEN"]),
        ),
        (
            &["--api-keys=,", "--tls-enabled"],
            &[("YARDARM_HARNESS_ACCOUNT", "a"), ("YARDARM_HARNESS_ADMIN_TOKEN", "t"), ("YARDARM_SERVER_TLS_KEY", "k")],
            missing(&["ORG_IDENTIFIER", "API_KEYS", "TLS_CERT"]),
        ),
        (&["--offline"], &[("TLS_ENABLED", "1"), ("TLS_KEY", "k")], missing(&["TLS_CERT"])),
        (&[], &[("AND_RULES", "true"), ("REDIS_ADDRESS", "r:1")], missing(&["PROXY_KEY"])),
        (&["--readReplica=false"], &[("TLS_ENABLED", "1"), ("TLS_KEY", "k")], missing(&["PROXY_KEY", "TLS_CERT"])),
        (
            &[],
            &[("FORWARD_TARGETS", "true"), ("API_KEYS", "k"), ("ORG_IDENTIFIER", "o")],
            missing(&["ACCOUNT_IDENTIFIER", "ADMIN_SERVICE_TOKEN"]),
        ),
        (
            &["--offline", "--port=canary", "-nonsense=canary", "canary", "--tls-enabled=canary", "--config-dir"],
            &[("METRIC_POST_DURATION", "-1"), ("BYPASS_AUTH", "yes")],
            usage(&[
                "argument --port must be a whole number from 0",
                "there is no flag --nonsense",
                "every argument must be a flag, such as --port=7000",
                "argument --tls-enabled must be `true` or `false`",
                "flag --config-dir needs a value",
                "variable BYPASS_AUTH must be `true` or `false`",
                "variable METRIC_POST_DURATION must be a whole number from 0",
            ]),
        ),
        (&["--offline"], &[("READ_REPLICA", "true")], missing(&["REDIS_ADDRESS"])),
        (&["--readReplica"], &[("YARDARM_HARNESS_REDIS_URL", "redis://r")], None),
        (
            &["--readReplica"],
            &[("REDIS_ADDRESS", "a:1,b:1")],
            Some(CompatError::Refused(vec![
                "variable REDIS_ADDRESS is not supported yet with several addresses, which mean a Redis cluster; give one \
                 address"
                    .to_owned(),
            ])),
        ),
        (&["--offline", "-readReplica=false"], &[], None),
    ] {
        assert_eq!(translated(arguments, variables).err(), expected, "{arguments:?} {variables:?}");
    }
    let error = CompatError::Missing(vec!["A", "B"]);
    assert_eq!(error.to_string(), "The following configuration values are required: [A B]");
}

#[test]
fn a_database_makes_a_primary_or_a_replica() {
    let redis = [("REDIS_ADDRESS", "redis:6379"), ("REDIS_USERNAME", "u"), ("REDIS_PASSWORD", "p")];
    let text = |translation: &Translation, key: &str| {
        translation.overrides.iter().rfind(|it| it.key == key).map(|it| it.text.expose().to_owned())
    };
    let primary = translated(&["--proxy-key=k", "--metrics-stream-max-len=7"], &redis).unwrap();
    let replica = translated(&["--proxy-key=k", "--api-keys=a", "--readReplica"], &redis).unwrap();
    for (key, of_primary, of_replica) in [
        ("harness.redis.url", Some("redis://redis:6379"), Some("redis://redis:6379")),
        ("harness.redis.username", Some("u"), Some("u")),
        ("harness.redis.password", Some("p"), Some("p")),
        ("harness.redis.metrics_stream_length", Some("7"), None),
        ("harness.proxy_key", Some("k"), None),
        ("harness.environments[0].api_key", None, None),
        ("harness.read_replica", None, Some("true")),
    ] {
        let found = (text(&primary, key), text(&replica, key));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), (of_primary, of_replica), "{key}");
    }
    assert!(replica.warnings.is_empty(), "{:?}", replica.warnings);
    let tls = translated(&["--proxy-key=k"], &[("REDIS_ADDRESS", "rediss://r:1")]).unwrap();
    assert_eq!(text(&tls, "harness.redis.url").as_deref(), Some("rediss://r:1"));
    let offline = translated(&["--offline"], &redis).unwrap();
    assert_eq!(text(&offline, "harness.redis.url"), None);
}

#[test]
fn settings_without_an_effect_cause_warnings_where_it_matters() {
    for (variables, expected) in [
        (&[("REDIS_ADDRESS", "redis:6379"), ("REDIS_PASSWORD", "p"), ("REDIS_DB", "1")][..], ""),
        (&[("PPROF", "true")], "PPROF has no effect"),
        (
            &[("PPROF", "false"), ("GCP_PROFILER_ENABLED", "0"), ("SDK_EVENTS_URL", "x"), ("HEARTBEAT_INTERVAL", "0")],
            "",
        ),
        (&[("PROMETHEUS_PORT", "9090")], "PROMETHEUS_PORT has no effect"),
        (&[("PROMETHEUS_PORT", "8000"), ("PORT", "8000")], ""),
        (&[("LOG_LEVEL", "loud")], "LOG_LEVEL must be"),
    ] {
        let warnings = online(&[], variables).unwrap().warnings;
        let is_expected = match warnings.as_slice() {
            [] => expected.is_empty(),
            [warning] => !expected.is_empty() && warning.contains(expected),
            _ => false,
        };
        assert!(is_expected, "{variables:?}: {warnings:?}");
    }
}

#[test]
fn translated_values_are_checked_and_keep_their_names() {
    let variables =
        [&REQUIRED[..], &[("AUTH_SECRET", "secret"), ("YARDARM_HARNESS_ENVIRONMENTS_0_NAME", "shop")]].concat();
    let mut values = Values::default();
    values.add_overrides(translated(&["--sdk-base-url=nowhere"], &variables).unwrap().overrides);
    values.add_variables(pairs(&variables), KEYS);
    let mut reader = Reader::new(&values, KEYS, &|_| None);
    let config = Config::read(&mut reader).expect("a source");
    let crate::config::Source::Keys(_, environments) = &config.source else { panic!("{:?}", config.source) };
    assert_eq!((environments.len(), environments[0].name.as_deref()), (2, Some("shop")));
    assert_eq!(config.auth_secret.as_ref().map(Secret::expose), Some("secret"), "an unchanged deployment starts");
    let errors: Vec<_> = reader.into_errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "`harness.sync_service` (argument --sdk-base-url): must be an address such as `https://host/path`, without user name and password, not `nowhere`",
        ]
    );
}

#[test]
fn an_empty_value_of_any_setting_is_no_value() {
    let rendered = |translation: Translation| {
        let overrides = translation.overrides.iter();
        let mut lines: Vec<_> = overrides.map(|it| format!("{} {} {}", it.key, it.text.expose(), it.source)).collect();
        lines.extend(translation.warnings);
        lines.extend(translation.export.map(|it| it.display().to_string()));
        lines
    };
    let default = rendered(online(&[], &[]).unwrap());
    for row in table::ROWS {
        for blank in ["", " \t"] {
            if !REQUIRED.iter().any(|(name, _)| *name == row.variable) {
                let found = rendered(online(&[], &[(row.variable, blank)]).unwrap());
                assert_eq!(found, default, "{}={blank:?}", row.variable);
            }
            let flag = format!("--{}={blank}", row.flag);
            assert_eq!(rendered(online(&[&flag], &[]).unwrap()), default, "{flag:?}");
        }
    }
    let keys = [REQUIRED[0], REQUIRED[1], REQUIRED[2], ("API_KEYS", "k1,, ,k2,")];
    assert_eq!(rendered(translated(&[], &keys).unwrap()), default, "empty keys in a list are none");
}
