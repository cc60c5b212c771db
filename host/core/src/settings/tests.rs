use std::time::Duration;

use serde_json::json;

use super::*;

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key { path, kind, default, about: "", bounds: None }
}

const KEYS: &[Key] = &[
    key("server.listen", Kind::Address, "0.0.0.0:8030"),
    key("server.limit", Kind::Size, "5MiB"),
    Key {
        bounds: Some(Bounds::Duration(Duration::from_secs(1), Duration::from_secs(3600))),
        ..key("vendor.beat", Kind::Duration, "3m")
    },
    key("vendor.environments[].name", Kind::Text, ""),
    key("vendor.environments[].key", Kind::Secret, ""),
    key("vendor.environments[].origins", Kind::List, ""),
    key("server.folder", Kind::OptionalPath, "./data"),
    key("vendor.url", Kind::Url, "http://default"),
    key("vendor.on", Kind::Bool, "false"),
];

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
    assert_eq!(reader.duration("vendor.beat").as_secs(), 20);
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
            "server.folder = ./data (default)",
            "vendor.url = http://default (default)",
            "vendor.on = false (default)",
        ]
    );
}

#[test]
fn booleans_are_words_or_digits() {
    for (text, expected) in [
        ("true", Some(true)),
        ("TRUE", Some(true)),
        ("1", Some(true)),
        ("false", Some(false)),
        ("0", Some(false)),
        ("yes", None),
    ] {
        let mut values = Values::default();
        values.add_variables([("YARDARM_VENDOR_ON".to_owned(), text.to_owned())], KEYS);
        let mut reader = Reader::new(&values, KEYS, &no_variables);
        let read = reader.flag("vendor.on");
        assert_eq!(reader.into_errors().is_empty().then_some(read), expected, "{text}");
    }
}

#[test]
fn overrides_win_over_the_file_and_keep_the_names_of_their_program() {
    let compat_override =
        |key: &str, source: ValueSource, text: &str| CompatOverride { key: key.to_owned(), source, text: text.into() };
    let mut values = Values::default();
    values.add_file(&json!({"server": {"listen": "1.1.1.1:1"}, "vendor": {"beat": "10s"}}), KEYS).unwrap();
    let port = ValueSource::Variable("PORT".to_owned());
    let overrides = [
        compat_override("server.listen", port, "nonsense"),
        compat_override("vendor.beat", ValueSource::Default, "20s"),
    ];
    assert!(!format!("{overrides:?}").contains("nonsense"), "they may be secrets");
    values.add_overrides(overrides);
    values.add_variables([("YARDARM_VENDOR_BEAT".to_owned(), "30s".to_owned())], KEYS);
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.address("server.listen");
    assert_eq!(reader.duration("vendor.beat").as_secs(), 30);
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
            "`server.lisen` (file): there is no such key; did you mean `server.listen`?",
            "`zzz` (file): there is no such key",
        ]
    );
    values.add_variables([("YARDARM_SERVER_LISEN".to_owned(), "x".to_owned())], KEYS);
    let unknown = values.unknown_variables(KEYS);
    assert_eq!(unknown, [("YARDARM_SERVER_LISEN".to_owned(), Some("YARDARM_SERVER_LISTEN".to_owned()))]);
}

#[test]
fn all_errors_are_reported_at_once_with_their_paths() {
    let mut values = Values::default();
    let file = json!({
        "server": {"listen": "nowhere", "limit": "many"},
        "vendor": {"beat": 15, "environments": [{"name": "a"}, {"key": {"env": "MISSING"}}]},
    });
    values.add_file(&file, KEYS).unwrap();
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.address("server.listen");
    reader.size("server.limit");
    reader.duration("vendor.beat");
    reader.each("vendor.environments", |entry| {
        let name = entry.optional_text("name");
        entry.require("name", name);
        entry.secret("key")
    });
    let texts: Vec<_> = reader.into_errors().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "`server.listen` (file): must be an address with a port, such as `127.0.0.1:8040`, not `nowhere`",
            "`server.limit` (file): must be a size above zero, such as `64KiB` or `5MiB`, not `many`",
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

#[test]
fn empty_values_count_as_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let blank = folder.path().join("blank");
    std::fs::write(&blank, " \n").unwrap();
    let mut values = Values::default();
    let file = json!({
        "server": {"listen": "", "limit": "1MiB", "folder": "/data"},
        "vendor": {
            "beat": "  ",
            "environments": [
                {"name": "", "key": ""},
                {"name": "a", "key": {"env": "EMPTY"}, "origins": ["", " x ", " "]},
                {"name": "b", "key": {"file": blank.to_str().unwrap()}, "origins": []},
            ],
        },
    });
    values.add_file(&file, KEYS).unwrap();
    let variables = [
        ("YARDARM_SERVER_LIMIT", ""),
        ("YARDARM_SERVER_FOLDER", ""),
        ("YARDARM_VENDOR_ENVIRONMENTS_7_NAME", " "),
        ("YARDARM_VENDOR_BEAT", "\t"),
    ];
    values.add_variables(variables.map(|(name, text)| (name.to_owned(), text.to_owned())), KEYS);
    values.add_argument("server.listen", "--listen", String::new());
    let lookup = |name: &str| (name == "EMPTY").then(String::new);
    let mut reader = Reader::new(&values, KEYS, &lookup);
    assert_eq!(reader.address("server.listen").to_string(), "0.0.0.0:8030", "the default, not any port");
    assert_eq!(reader.size("server.limit"), Some(1 << 20), "an empty variable leaves the file's value");
    assert_eq!(reader.path("server.folder"), None, "where empty is a choice, it wins over the file");
    assert_eq!(reader.duration("vendor.beat").as_secs(), 180, "the default, not the minimum");
    assert_eq!(reader.indices("vendor.environments"), [1, 2]);
    let read = reader.each("vendor.environments", |entry| {
        let key = entry.secret("key");
        if key.is_none() {
            entry.reject("key", "is required");
        }
        entry.list("origins")
    });
    assert_eq!(read, [vec!["x".to_owned()], vec![]]);
    let texts: Vec<_> = reader.into_errors().iter().map(ToString::to_string).collect();
    let expected = [
        "`vendor.environments[1].key` (file; variable `EMPTY` is empty): is required".to_owned(),
        format!("`vendor.environments[2].key` (file; file `{}` is empty): is required", blank.display()),
    ];
    assert_eq!(texts, expected);
    let folder = values.effective(KEYS).into_iter().find(|it| it.key == "server.folder").unwrap();
    assert_eq!(folder.value, "(none)");
    assert!(values.empty().iter().any(|it| it == "YARDARM_SERVER_LIMIT"), "{:?}", values.empty());
}

#[test]
fn a_section_of_empty_values_only_counts_as_missing() {
    let mut values = Values::default();
    let file = json!({"vendor": {"environments": [{"key": {"env": "EMPTY"}}, {"name": " "}]}});
    values.add_file(&file, KEYS).unwrap();
    let lookup = |_: &str| Some(" ".to_owned());
    assert!(!Reader::new(&values, KEYS, &lookup).has_section("vendor"));
    let lookup = |_: &str| Some("key".to_owned());
    assert!(Reader::new(&values, KEYS, &lookup).has_section("vendor.environments"));
}

#[test]
fn what_may_be_a_secret_is_not_repeated() {
    let mut values = Values::default();
    let canary = "canary-0123456789-0123456789";
    let file = json!({
        "server": {"listen": canary, "limit": {"env": canary}},
        "vendor": {"beat": canary, "url": "https://user:canary@host", "environments": [{"key": [canary]}]},
    });
    values.add_file(&file, KEYS).unwrap();
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.address("server.listen");
    reader.size("server.limit");
    reader.duration("vendor.beat");
    reader.url("vendor.url");
    reader.each("vendor.environments", |entry| entry.secret("key"));
    let errors = reader.into_errors();
    assert_eq!(errors.len(), 5, "{errors:?}");
    assert!(!format!("{errors:?} {}", errors.iter().map(ToString::to_string).collect::<String>()).contains("canary"));
    assert!(
        !format!("{:?}", values.effective(&KEYS[KEYS.len() - 1..])).contains("canary"),
        "shown without credentials"
    );
}

#[test]
fn addresses_that_could_not_be_connected_to_are_refused() {
    for (text, expected) in [
        ("https://host/path/", Some("https://host/path")),
        (" http://[::1]:80 ", Some("http://[::1]:80")),
        ("https://user@host", None),
        ("https://user:pass@host/", None),
        ("http://", None),
        ("http://host:port", None),
        ("http://host:99999", None),
        ("http://host:", None),
        ("http://ho st", None),
        ("https://host?query", None),
        ("ftp://host", None),
        ("host:80", None),
    ] {
        let mut values = Values::default();
        values.add_file(&json!({"vendor": {"url": text}}), KEYS).unwrap();
        let mut reader = Reader::new(&values, KEYS, &no_variables);
        let url = reader.optional_url("vendor.url");
        assert_eq!(url.as_deref().filter(|it| *it != "http://default"), expected, "{text}");
        assert_eq!(reader.into_errors().len(), usize::from(expected.is_none()), "{text}");
    }
}

#[test]
fn a_mistake_is_reported_once() {
    let mut values = Values::default();
    values.add_file(&json!({"vendor": {"environments": [{"key": {"env": "MISSING"}}]}}), KEYS).unwrap();
    let mut reader = Reader::new(&values, KEYS, &no_variables);
    reader.each("vendor.environments", |entry| {
        entry.secret("key");
        entry.reject("key", "is required");
    });
    assert_eq!(reader.into_errors().len(), 1);
}

proptest::proptest! {
    #[test]
    fn no_file_causes_a_panic(text in "\\PC*") {
        let mut values = Values::default();
        let _ = values.add_file(&json!({"server": {"listen": text, "limit": text}, "vendor": text}), KEYS);
        let mut reader = Reader::new(&values, KEYS, &no_variables);
        reader.address("server.listen");
        reader.size("server.limit");
    }
}
