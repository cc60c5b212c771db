//! Errors of the configuration: all at once, each with its key and the fix. Exit code 78, as in sysexits(3).

use tempfile::TempDir;

use crate::program::{command, run};

const GOOD: &str = r#"
server.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"
[launchdarkly]
stream_uri = "http://127.0.0.1:9"
[[launchdarkly.environments]]
name = "main"
sdk_key = "sdk-canary-1"
mobile_key = { env = "THE_KEY" }
"#;

fn folder(text: &str) -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    std::fs::write(dir.path().join("yardarm.toml"), text).expect("a folder that can be written");
    dir
}

#[test]
fn wrong_values_are_named_with_their_keys() {
    for (text, parts) in [
        ("", &["no vendor is configured", "`[[launchdarkly.environments]]`", "yardarm demo"][..]),
        ("[server", &["is not valid TOML", "yardarm.toml"]),
        ("[server]\nlisen = 1", &["`server.lisen`", "did you mean `server.listen`?"]),
        ("[server]\nlisten = \"nowhere\"", &["`server.listen`", "must be an address with a port", "not `nowhere`"]),
        ("[server]\nmax_head = \"much\"", &["`server.max_head`"]),
        ("[shutdown]\ndrain = \"soon\"", &["`shutdown.drain`", "such as `5s`"]),
        ("[log]\nformat = \"xml\"", &["`log.format`", "`text`, `json` or `go`"]),
        (
            "[launchdarkly]\nstream_uri = \"not a uri\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"a\"",
            &["`launchdarkly.stream_uri`"],
        ),
        (
            "[launchdarkly]\nclient_streams = \"patch\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"a\"",
            &["`launchdarkly.client_streams`", "must be `ping` or `evaluated`"],
        ),
        ("[[launchdarkly.environments]]\nname = \"a\"", &["`launchdarkly.environments[0].sdk_key`", "is required"]),
        ("[[launchdarkly.environments]]\nsdk_key = \"a\"", &["`launchdarkly.environments[0].name`", "is required"]),
        // U006: a key that cannot be sent is rejected at the start, and not printed.
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary\\n1\"",
            &["`launchdarkly.environments[0].sdk_key`", "contains characters that no key has"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = { env = \"NOWHERE\" }",
            &["`launchdarkly.environments[0].sdk_key`", "the variable `NOWHERE` is not set"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = { file = \"nowhere\" }",
            &["`launchdarkly.environments[0].sdk_key`", "the file `nowhere` cannot be read"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary-1\"\n[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-canary-1\"",
            &["there is another environment named `a`", "another environment has the same key"],
        ),
        (
            "[plugins.kv_redis]\nprefix = \"a\"",
            &["`plugins.kv_redis.url`", "is required where other settings of this database are given"],
        ),
        (
            "[plugins.kv_redis]\nurl = \"http://canary@host\"\nprefix = \"{a}\"",
            &["`plugins.kv_redis.url`", "rediss://", "`plugins.kv_redis.prefix`", "without braces"],
        ),
        ("[plugins]\nfingerprint_key = \"canary\"", &["`plugins.fingerprint_key`", "must have 16 bytes or more"]),
        // Docker keeps the quotes of variables in an environment file.
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"\\\"sdk-canary\\\"\"",
            &["`launchdarkly.environments[0].sdk_key`", "contains quotes, which count as a part of the key here"],
        ),
        (
            "[[launchdarkly.environments]]\nname = \"a\"\nsdk_key = \"sdk-1\"\nfilters = [\"b\"]\n[[launchdarkly.environments]]\nname = \"a/b\"\nsdk_key = \"sdk-2\"",
            &["`launchdarkly.environments[1].name`", "there is another environment named `a/b`"],
        ),
    ] {
        let dir = folder(text);
        for arguments in [&["run"][..], &["check"][..], &[][..]] {
            let output = run(dir.path(), arguments);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{text}: {error}");
            for part in parts {
                assert_eq!(error.matches(part).count(), 1, "{text}: `{part}` is missing or repeated in {error}");
            }
            assert!(!error.contains("canary"), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let dir = TempDir::new().unwrap();
    let output = run(dir.path(), &["run", "--config", "elsewhere.toml"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    assert!(error.contains("`elsewhere.toml` cannot be read"), "{error}");
}

#[test]
fn check_shows_every_value_with_its_source_and_no_secret() {
    let dir = folder(GOOD);
    let mut check = command(dir.path());
    check.args(["check", "--print-effective"]).env("THE_KEY", "mob-canary-2");
    check.env("YARDARM_SERVER_MAX_STREAMS", "17").env("YARDARM_SERVER_MAX_STREAM", "18");
    check.env("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_ENV_ID", "some-id");
    let output = check.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let line = |start: &str| {
        text.lines().find(|it| it.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}")).to_owned()
    };
    for (start, parts) in [
        ("server.max_streams = ", &["17", "YARDARM_SERVER_MAX_STREAMS"][..]),
        ("launchdarkly.stream_uri = ", &["http://127.0.0.1:9", "yardarm.toml, line 5, column 1"]),
        ("shutdown.drain = ", &["5s", "default"]),
        ("launchdarkly.environments[0].sdk_key = ", &["***", "yardarm.toml, line 8"]),
        ("launchdarkly.environments[0].mobile_key = ", &["THE_KEY", "yardarm.toml, line 9"]),
        ("launchdarkly.environments[0].env_id = ", &["some-id", "YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_ENV_ID"]),
        ("warning: ", &["YARDARM_SERVER_MAX_STREAM", "did you mean YARDARM_SERVER_MAX_STREAMS?"]),
        ("configuration is fine", &[]),
    ] {
        let line = line(start);
        for part in parts {
            assert!(line.contains(part), "{line}: {part}");
        }
    }
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_plugin_that_would_be_refused_fails_the_check() {
    let dir = folder(GOOD);
    std::fs::create_dir(dir.path().join("plugins.d")).unwrap();
    std::fs::write(dir.path().join("plugins.d/broken.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let mut check = command(dir.path());
    let output = check.arg("check").env("THE_KEY", "mob-1").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("refused: broken: "), "{text}");
}

#[test]
fn errors_have_a_position() {
    let text = "[server]\nlisten = \"127.0.0.1:0\"\n  max_streams = 0\n\n[[launchdarkly.environments]]\nname = \"a\"\n\
                sdk_key = { env = \"EMPTY\" }\nlog = 1\n";
    let dir = folder(text);
    let mut check = command(dir.path());
    check
        .arg("check")
        .env("EMPTY", "")
        .env("YARDARM_ADMIN_LISTEN", "nowhere")
        .env("YARDARM_LAUNCHDARKLY_FDV2", "maybe");
    let output = check.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    let expected = "error: 5 values of the configuration cannot be used:\n  \
        `server.max_streams` (yardarm.toml, line 3, column 3): must be a whole number from 1 to 10000000, not `0`\n  \
        `launchdarkly.environments[0].sdk_key` (yardarm.toml, line 7, column 1; variable `EMPTY` is empty): is required\n  \
        `launchdarkly.environments[0].log` (yardarm.toml, line 8, column 1): there is no such key; did you mean `launchdarkly.environments[].ttl`?\n  \
        `admin.listen` (variable YARDARM_ADMIN_LISTEN): must be an address with a port, such as `127.0.0.1:8040`, not `nowhere`\n  \
        `launchdarkly.fdv2` (variable YARDARM_LAUNCHDARKLY_FDV2): must be `true` or `false`, not `maybe`\n";
    assert_eq!(error, expected);
}

#[test]
fn syntax_errors_have_a_position_and_do_not_repeat_the_line() {
    for (line, place) in [
        ("sdk_key = sdk-canary-1", "line 3, column 11"),
        ("sdk_key = \"sdk-canary-1", "line 3, column "),
        ("sdk_key \"sdk-canary-1\"", "line 3, column "),
        ("sdk-canary-1", "line 3, column "),
        ("sdk_key = \"sdk-canary-1\"\nsdk_key = \"sdk-canary-1\"", "line 4, column 1"),
        ("sdk_key = [\"sdk-canary-1\"", "line 3, column "),
        ("sdk_key = \"sdk-canary-1\" sdk-canary-1", "line 3, column "),
        ("sdk_key = \"\\sdk-canary-1\"", "line 3, column "),
    ] {
        let dir = folder(&format!("# a comment\n[[launchdarkly.environments]]\n{line}\n"));
        for arguments in [&["run"][..], &["check", "--print-effective"][..]] {
            let output = run(dir.path(), arguments);
            let error = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(78), "{line}: {error}");
            assert!(error.contains("yardarm.toml") && error.contains(place), "{line}: {error}");
            assert!(!error.contains("canary") && !error.contains("sdk_key"), "{line}: {error}");
        }
    }
}

#[test]
fn secrets_in_wrong_places_are_not_repeated() {
    let canary = "canary-5f3c-4b2a-9d11-canary";
    for (name, value) in [
        ("YARDARM_SERVER_LISTEN", canary),
        ("YARDARM_SERVER_MAX_STREAMS", canary),
        ("YARDARM_SERVER_MAX_BODY", canary),
        ("YARDARM_SERVER_REQUEST_TIMEOUT", canary),
        ("YARDARM_SERVER_COMPRESSION", canary),
        ("YARDARM_LOG_LEVEL", canary),
        ("YARDARM_LOG_FORMAT", canary),
        ("YARDARM_ADMIN_READY", canary),
        ("YARDARM_LAUNCHDARKLY_STREAM_URI", canary),
        ("YARDARM_LAUNCHDARKLY_STREAM_URI", "https://user:canary@host"),
        ("YARDARM_LAUNCHDARKLY_EVENTS_URI", "https://canary@host/x"),
        ("YARDARM_LAUNCHDARKLY_CLIENT_STREAMS", canary),
        ("YARDARM_LAUNCHDARKLY_REDIS_URL", "canary://canary:canary@canary"),
        ("YARDARM_LAUNCHDARKLY_REDIS_TLS", canary),
        ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_SDK_KEY", "canary\u{7}"),
        ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_TTL", canary),
    ] {
        let dir = folder(GOOD);
        for arguments in [&["run"][..], &["check", "--print-effective"][..]] {
            let mut command = command(dir.path());
            let output = command.args(arguments).env("THE_KEY", "mob-1").env(name, value).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(78), "{name}: {error}");
            assert!(error.contains(name), "{name}: {error}");
            assert!(!error.contains("canary"), "{name}: {error}");
        }
    }
}

/// Variables of a configuration with all sections.
const USUAL: [(&str, &str); 10] = [
    ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_NAME", "a"),
    ("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_SDK_KEY", "sdk-1"),
    ("YARDARM_LAUNCHDARKLY_PROMETHEUS_LISTEN", "127.0.0.1:8031"),
    ("YARDARM_LAUNCHDARKLY_REDIS_URL", "redis://localhost"),
    ("YARDARM_HARNESS_ENVIRONMENTS_0_API_KEY", "key-1"),
    ("YARDARM_HARNESS_ACCOUNT", "a"),
    ("YARDARM_HARNESS_ORGANIZATION", "o"),
    ("YARDARM_HARNESS_ADMIN_TOKEN", "t"),
    ("EMPTY", ""),
    ("BLANK", " \t"),
];

/// Returns the effective values with a file and the usual variables, one of which has this text, or is missing.
fn effective(file: &str, variable: &str, text: Option<&str>) -> Result<String, String> {
    let dir = folder(file);
    let usual = USUAL.iter().filter(|(name, _)| *name != variable).copied();
    let variables = usual.chain(text.map(|it| (variable, it)));
    let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let overrides = yardarm::config::Overrides { variables, ..Default::default() };
    let loaded = yardarm::config::load(Some(&dir.path().join("yardarm.toml")), &overrides);
    // The message may mention the empty value; the missing value is the same.
    loaded
        .map(|it| {
            // A misspelt variable sets nothing, and is a warning.
            let warnings: Vec<_> = it.warnings.iter().filter(|it| it.starts_with("variable")).collect();
            format!("{:#?} {warnings:#?}", it.config)
        })
        .map_err(|error| error.to_string().replace(" (left empty", "\n(left empty"))
}

/// Returns the ways in which a file can leave a key empty.
fn empty_values(key: &yardarm_core::settings::Key) -> Vec<String> {
    use yardarm_core::settings::Kind;
    let values: &[&str] = match key.kind {
        Kind::List => &["\"\"", "\" \\t \"", "[]", "[\"\", \" \"]"],
        Kind::Secret => &[
            "\"\"",
            "\" \\t \"",
            "{ env = \"EMPTY\" }",
            "{ env = \"BLANK\" }",
            "{ env = \"\" }",
            "{ file = \"/dev/null\" }",
            "{ file = \" \" }",
        ],
        _ => &["\"\"", "\" \\t \""],
    };
    let (header, name) = match key.path.split_once("[].") {
        Some((list, name)) => (format!("[[{list}]]\n"), name),
        None => (String::new(), key.path),
    };
    values.iter().map(|value| format!("{header}{name} = {value}\n")).collect()
}

#[test]
fn an_empty_value_of_any_key_counts_as_not_set() {
    let mut exceptions = Vec::new();
    let keys = yardarm::config::keys();
    for key in &keys {
        let variable = key.variable().replace("ENVIRONMENTS__", "ENVIRONMENTS_0_");
        let without = effective("", &variable, None);
        let in_variables = ["", " \t "].map(|blank| effective("", &variable, Some(blank)));
        let in_files = empty_values(key).into_iter().map(|file| effective(&file, &variable, None));
        for found in in_variables.into_iter().chain(in_files) {
            let is_same = match (&found, &without) {
                (Ok(found), Ok(without)) => found == without,
                // A required key; the message also names where it was looked for.
                (Err(found), Err(_)) => found.contains("is required") || found.contains("is empty"),
                _ => false,
            };
            if !is_same {
                exceptions.push(key.path);
                assert!(key.about.contains("empty text is a choice of its own"), "{}: {found:#?}", key.path);
            }
        }
    }
    exceptions.dedup();
    assert_eq!(exceptions, ["data.dir"]);
    assert!(keys.len() > 80, "{}", keys.len());
}

#[test]
fn an_empty_variable_leaves_the_value_of_the_file() {
    let file = "[launchdarkly]\nheartbeat_interval = \"77s\"\n[data]\ndir = \"kept\"\n";
    let with = effective(file, "YARDARM_LAUNCHDARKLY_HEARTBEAT_INTERVAL", Some("")).unwrap();
    assert!(with.contains("heartbeat_interval: 77s"), "{with}");
    assert!(effective(file, "YARDARM_DATA_DIR", Some("")).unwrap().contains("data_dir: None"), "empty keeps nothing");
}

#[test]
fn zero_is_rejected_unless_documented() {
    use yardarm_core::settings::Kind;
    for key in yardarm::config::keys() {
        if !matches!(key.kind, Kind::Duration | Kind::Size | Kind::Count) {
            continue;
        }
        let variable = key.variable().replace("ENVIRONMENTS__", "ENVIRONMENTS_0_");
        for zero in ["0", "0s", "0ms", "0KiB"] {
            match effective("", &variable, Some(zero)) {
                Ok(_) => {
                    assert!(key.about.contains("`0s`") || key.about.contains("`0`"), "{variable}={zero} is accepted");
                }
                Err(error) => {
                    assert!(error.contains(&format!("variable {variable}")), "{variable}={zero}: {error}");
                }
            }
        }
    }
}

#[test]
fn an_invalid_log_level_never_silences_the_process() {
    let dir = folder(GOOD);
    let check = |level: &str| {
        let mut check = command(dir.path());
        let output = check.arg("check").env("THE_KEY", "mob-1").env("YARDARM_LOG_LEVEL", level).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for level in ["warning", " INFO ", "verbose", "", "Error", "yardarm_wasm=debug", "warn,hyper=off"] {
        assert_eq!(check(level), (Some(0), String::new()), "{level}");
    }
    for level in ["wanring", "yardarm", "off", "2", "info debug", "yardarm=loud", "none"] {
        let (code, error) = check(level);
        assert_eq!(code, Some(78), "{level}: {error}");
        for part in ["`log.level` (variable YARDARM_LOG_LEVEL)", "`error`, `warn`, `info`, `debug`, `trace`"] {
            assert!(error.contains(part), "{level}: {error}");
        }
    }
}

#[tokio::test]
async fn levels_of_other_programs_log_what_they_should() {
    for level in ["verbose", "yardarm_wasm=debug", " Info "] {
        let dir = folder(&GOOD.replace("{ env = \"THE_KEY\" }", "\"mob-1\""));
        let mut command = command(dir.path());
        command.env("YARDARM_LOG_LEVEL", level).env("YARDARM_LOG_FORMAT", "JSON").env("YARDARM_DATA_DIR", "");
        // Waits for a line of the level `info`.
        let program = crate::program::Program::launch(command).await;
        program.signal(crate::program::Signal::TERM);
        assert_eq!(program.ends().await.0.code(), Some(0), "{level}");
    }
}

#[test]
fn variables_that_are_not_utf_8_are_harmless() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(GOOD);
    let mut check = command(dir.path());
    check.arg("check").env("THE_KEY", "mob-1").env("OTHER", std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(check.output().unwrap().status.code(), Some(0));
    check.env("YARDARM_SERVER_LISTEN", std::ffi::OsStr::from_bytes(b"\xff"));
    let output = check.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("variable YARDARM_SERVER_LISTEN"));
}

#[test]
fn a_vendor_without_environments_is_a_warning() {
    let dir = folder(GOOD);
    let mut check = command(dir.path());
    check.arg("check").env("THE_KEY", "mob-1").env("YARDARM_HARNESS_ACCOUNT", "a");
    let output = check.env("YARDARM_HARNESS_ENVIRONMENTS_0_API_KEY", "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "warning: settings of `harness` have no effect, because they name no environments \
                    (left empty, so not set: YARDARM_HARNESS_ENVIRONMENTS_0_API_KEY)\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn an_empty_template_is_reported() {
    let dir = folder("");
    let mut run = command(dir.path());
    run.env("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_NAME", "").env("YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_SDK_KEY", "");
    let output = run.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    for part in ["no vendor is configured (left empty, so not set: ", "YARDARM_LAUNCHDARKLY_ENVIRONMENTS_0_SDK_KEY"] {
        assert!(error.contains(part), "{error}");
    }
}
