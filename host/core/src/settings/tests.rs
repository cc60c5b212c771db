use std::time::Duration;

use serde_json::json;

use super::*;

const KEYS: &[Key] = &[
    Key { path: "server.listen", kind: Kind::Address, default: "0.0.0.0:8030", about: "" },
    Key { path: "server.limit", kind: Kind::Size, default: "5MiB", about: "" },
    Key { path: "vendor.beat", kind: Kind::Duration, default: "3m", about: "" },
    Key { path: "vendor.environments[].name", kind: Kind::Text, default: "", about: "" },
    Key { path: "vendor.environments[].key", kind: Kind::Secret, default: "", about: "" },
    Key { path: "vendor.environments[].origins", kind: Kind::List, default: "", about: "" },
];

const ANY: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

fn no_variables(_: &str) -> Option<String> {
    None
}

#[test]
fn later_sources_win_and_are_named() {
    let mut values = Values::default();
    values.add_file(&json!({"server": {"listen": "1.1.1.1:1"}, "vendor": {"beat": "10s"}}), KEYS).unwrap();
    values.add_variables([("YARDARM_VENDOR_BEAT".to_owned(), "20s".to_owned())], KEYS);
    values.add_argument("server.listen", "--listen", "2.2.2.2:2".to_owned());
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    assert_eq!(reader.address("server.listen").to_string(), "2.2.2.2:2");
    assert_eq!(reader.duration("vendor.beat", ANY).as_secs(), 20);
    assert_eq!(reader.size("server.limit"), Some(5 << 20));
    assert!(reader.into_errors().is_empty());
    let effective: Vec<_> =
        values.effective(KEYS).iter().map(|it| format!("{} = {} ({})", it.key, it.value, it.source)).collect();
    assert_eq!(
        effective,
        [
            "server.listen = 2.2.2.2:2 (argument --listen)",
            "server.limit = 5MiB (default)",
            "vendor.beat = 20s (variable YARDARM_VENDOR_BEAT)",
        ]
    );
}

#[test]
fn presets_win_over_the_file_and_are_called_what_their_program_calls_them() {
    let preset = |key: &str, source: Source, text: &str| Preset { key: key.to_owned(), source, text: text.into() };
    let mut values = Values::default();
    values.add_file(&json!({"server": {"listen": "1.1.1.1:1"}, "vendor": {"beat": "10s"}}), KEYS).unwrap();
    let port = Source::Variable("PORT".to_owned());
    let presets = [preset("server.listen", port, "nonsense"), preset("vendor.beat", Source::Default, "20s")];
    assert!(!format!("{presets:?}").contains("nonsense"), "they may be secrets");
    values.add_presets(presets);
    values.add_variables([("YARDARM_VENDOR_BEAT".to_owned(), "30s".to_owned())], KEYS);
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.address("server.listen");
    assert_eq!(reader.duration("vendor.beat", ANY).as_secs(), 30);
    let errors: Vec<_> = reader.into_errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["`server.listen` (variable PORT): must be an address with a port, such as `127.0.0.1:8040`, not `nonsense`"]
    );
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let mut values = Values::default();
    let errors = values.add_file(&json!({"server": {"lisen": "x"}, "zzz": 1}), KEYS).unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "`server.lisen` in the configuration file: there is no such key; did you mean `server.listen`?",
            "`zzz` in the configuration file: there is no such key",
        ]
    );
    values.add_variables([("YARDARM_SERVER_LISEN".to_owned(), String::new())], KEYS);
    let stray = values.stray_variables(KEYS);
    assert_eq!(stray, [("YARDARM_SERVER_LISEN".to_owned(), Some("YARDARM_SERVER_LISTEN".to_owned()))]);
}

#[test]
fn all_errors_come_at_once_with_their_paths() {
    let mut values = Values::default();
    let file = json!({
        "server": {"listen": "nowhere", "limit": "many"},
        "vendor": {"beat": 15, "environments": [{"name": "a"}, {"key": {"env": "MISSING"}}]},
    });
    values.add_file(&file, KEYS).unwrap();
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.address("server.listen");
    reader.size("server.limit");
    reader.duration("vendor.beat", Duration::from_secs(1)..=Duration::from_secs(3600));
    reader.each("vendor.environments", |entry| {
        entry.required_text("name");
        entry.secret("key")
    });
    let texts: Vec<_> = reader.into_errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "`server.listen` (file): must be an address with a port, such as `127.0.0.1:8040`, not `nowhere`",
            "`server.limit` (file): must be a size such as `64KiB` or `5MiB`, not `many`",
            "`vendor.beat` (file): must be a time from 1s to 1h, such as `5s`, not `15`",
            "`vendor.environments[1].name`: is required",
            "`vendor.environments[1].key` (file): the variable `MISSING` is not set",
        ]
    );
}

#[test]
fn lists_can_be_set_by_variables() {
    let mut values = Values::default();
    values.add_file(&json!({"vendor": {"environments": [{"name": "a"}]}}), KEYS).unwrap();
    let variables = [("YARDARM_VENDOR_ENVIRONMENTS_0_ORIGINS", "x, y"), ("YARDARM_VENDOR_ENVIRONMENTS_1_NAME", "b")];
    values.add_variables(variables.map(|(name, text)| (name.to_owned(), text.to_owned())), KEYS);
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    let read = reader.each("vendor.environments", |entry| (entry.text("name"), entry.list("origins")));
    assert_eq!(read, [("a".to_owned(), vec!["x".to_owned(), "y".to_owned()]), ("b".to_owned(), vec![])]);
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "canary\n").unwrap();
    let mut values = Values::default();
    let path = file.path().to_str().unwrap();
    let file = json!({"vendor": {"environments": [{"key": {"file": path}}, {"key": "canary"}]}});
    values.add_file(&file, KEYS).unwrap();
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    let secrets = reader.each("vendor.environments", |entry| entry.secret("key").unwrap());
    assert!(secrets.iter().all(|secret| secret.expose() == "canary"));
    assert!(!format!("{values:?} {:?} {secrets:?}", values.effective(KEYS)).contains("canary"));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "\\PC*") {
        let mut values = Values::default();
        let _ = values.add_file(&json!({"server": {"listen": text, "limit": text}, "vendor": text}), KEYS);
        let mut reader = Reader::new(&values, KEYS, &no_variables);
        reader.address("server.listen");
        reader.size("server.limit");
    }
}
