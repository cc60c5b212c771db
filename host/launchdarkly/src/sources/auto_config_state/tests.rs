use serde_json::json;

use super::*;

const COMMON: CommonConfig =
    CommonConfig { allowed_origins: Vec::new(), allowed_headers: Vec::new(), prefix: None, table_name: None };

fn environment(id: &str, version: i64) -> Value {
    json!({
        "envID": id, "envKey": "production", "envName": "Production", "projKey": "shop", "projName": "Shop",
        "sdkKey": {"value": format!("sdk-{id}-{version}")}, "mobKey": "mob", "version": version,
    })
}

/// A sequence of messages; each returns the names that are served after it.
struct Talk(AutoConfigState);

impl Talk {
    fn new() -> Self {
        Self(AutoConfigState::new(COMMON))
    }

    fn receive(&mut self, event: &str, data: &Value) -> String {
        let message = AutoConfigMessage::read(event, &data.to_string()).unwrap();
        self.0.apply(message, 0);
        self.shows()
    }

    fn put(&mut self, environments: &[(&str, i64)]) -> String {
        let map: serde_json::Map<_, _> =
            environments.iter().map(|(id, version)| ((*id).to_owned(), environment(id, *version))).collect();
        self.receive("put", &json!({"path": "/", "data": {"environments": map}}))
    }

    fn patch(&mut self, id: &str, version: i64) -> String {
        self.receive("patch", &json!({"path": format!("/environments/{id}"), "data": environment(id, version)}))
    }

    fn delete(&mut self, id: &str, version: i64) -> String {
        self.receive("delete", &json!({"path": format!("/environments/{id}"), "version": version}))
    }

    fn filter(&mut self, id: &str, key: &str, version: i64) -> String {
        let data = json!({"projKey": "shop", "key": key, "version": version});
        self.receive("patch", &json!({"path": format!("/filters/{id}"), "data": data}))
    }

    /// `ID:VERSION` of each environment, `ID/FILTER` of each variant.
    fn shows(&self) -> String {
        let show = |it: Variant| match &*it.filter {
            "" => it.config.credentials.sdk_key().expose().trim_start_matches("sdk-").replace('-', ":"),
            filter => format!("{}/{filter}", it.config.name),
        };
        self.0.variants().into_iter().map(show).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn versions_decide() {
    let mut talk = Talk::new();
    assert_eq!(talk.put(&[("a", 2), ("b", 5)]), "a:2 b:5", "U059");
    assert_eq!(talk.patch("a", 2), "a:2 b:5", "U066");
    assert_eq!(talk.patch("a", 1), "a:2 b:5", "U066");
    assert_eq!(talk.patch("a", 3), "a:3 b:5");
    assert_eq!(talk.delete("b", 5), "a:3 b:5", "an old deletion");
    assert_eq!(talk.delete("b", 6), "a:3");
    assert_eq!(talk.patch("b", 6), "a:3", "U067");
    assert_eq!(talk.delete("b", 8), "a:3");
    assert_eq!(talk.patch("b", 8), "a:3", "the tombstone's version was raised");
    assert_eq!(talk.patch("b", 9), "a:3 b:9", "U068");
    assert_eq!(talk.delete("c", 5), "a:3 b:9");
    assert_eq!(talk.patch("c", 4), "a:3 b:9", "U069");
    assert_eq!(talk.put(&[("a", 3), ("b", 9)]), "a:3 b:9", "U070");
    assert_eq!(talk.put(&[("a", 3)]), "a:3", "U071");
    assert_eq!(talk.patch("b", 1), "a:3 b:1", "what a `put` leaves out is forgotten");
}

#[test]
fn filters_come_and_go() {
    let mut talk = Talk::new();
    talk.put(&[("a", 1), ("b", 1)]);
    assert_eq!(talk.filter("f", "x", 1), "a:1 a/x b:1 b/x", "U074");
    assert_eq!(talk.filter("f", "y", 2), "a:1 a/x b:1 b/x", "filters never change in place");
    assert_eq!(talk.patch("a", 2), "a:2 a/x b:1 b/x", "R18: the variant has the new key");
    assert!(
        talk.0
            .variants()
            .iter()
            .all(|it| it.config.name != "a" || it.config.credentials.sdk_key().expose() == "sdk-a-2")
    );
    assert_eq!(talk.receive("delete", &json!({"path": "/filters/f", "version": 2})), "a:2 a/x b:1 b/x", "old");
    assert_eq!(talk.receive("delete", &json!({"path": "/filters/f", "version": 3})), "a:2 b:1", "U075");
    assert_eq!(talk.filter("f", "z", 4), "a:2 a/z b:1 b/z");
    let other = json!({"projKey": "bank", "key": "w", "version": 1});
    assert_eq!(talk.receive("patch", &json!({"path": "/filters/g", "data": other})), "a:2 a/z b:1 b/z");
    assert_eq!(talk.put(&[("a", 2)]), "a:2", "missing filters are none");
}

#[test]
fn messages_for_others_are_ignored_and_broken_ones_are_errors() {
    let mut talk = Talk::new();
    talk.put(&[("a", 1)]);
    for (row, event, data) in [
        ("U062", "put", json!({"path": "/x", "data": {"environments": {}}})),
        ("U063", "patch", json!({"path": "/views/1", "data": {}})),
        ("another name", "hello", json!({})),
        ("U065", "reconnect", json!({})),
        ("U072", "patch", json!({"path": "/environments/z", "data": environment("y", 1)})),
        ("no key", "patch", json!({"path": "/environments/z", "data": {"envID": "z", "version": 1}})),
    ] {
        assert_eq!(talk.receive(event, &data), "a:1", "{row}");
    }
    for (event, data) in [
        ("put", "{sorry"),
        ("put", r#"{"path":"/"}"#),
        ("put", r#"{"path":"/","data":{"environments":[]}}"#),
        ("put", r#"{"path":"/","data":{"environments":null}}"#),
        ("put", r#"{"path":"/","data":{"filters":{}}}"#),
        ("put", r#"{"path":"/","data":{}}"#),
        ("put", r#"{"path":"/","data":null}"#),
        ("put", r#"{"path":"/"}"#),
        ("patch", r#"{"path":"/environments/a","data":7}"#),
        ("patch", r#"{"path":"/filters/a"}"#),
        ("delete", r#"{"path":"/environments/a","version":"x"}"#),
        ("delete", r#"{"path":7}"#),
    ] {
        assert!(AutoConfigMessage::read(event, data).is_err(), "U064: {event} {data}");
    }
}

#[test]
fn an_unreadable_entry_does_not_affect_others() {
    for broken in
        [json!(null), json!([]), json!(7), json!({"envID": 1}), json!({"sdkKey": "sdk-a"}), json!({"mobKey": 7})]
    {
        let mut talk = Talk::new();
        let list = |broken: &Value, version| {
            let environments = json!({"a": broken, "b": environment("b", version)});
            json!({"path": "/", "data": {"environments": environments, "filters": {"f": broken}}})
        };
        assert_eq!(talk.receive("put", &list(&broken, 1)), "b:1", "{broken}");
        talk.put(&[("a", 1), ("b", 2)]);
        assert_eq!(talk.filter("f", "x", 1), "a:1 a/x b:2 b/x");
        assert_eq!(talk.receive("put", &list(&broken, 3)), "a:1 a/x b:3 b/x", "known ones stay: {broken}");
    }
}

#[test]
fn a_contradiction_leaves_the_environment_as_it_was() {
    // U178
    let mut environments = AutoConfigState::new(COMMON);
    let message = |version, keys: Value| {
        let mut data = environment("a", version);
        data["sdkKey"] = json!({"value": "sdk-1"});
        data["sdkKeys"] = keys;
        let text = json!({"path": "/environments/a", "data": data}).to_string();
        AutoConfigMessage::read("patch", &text).unwrap()
    };
    assert_eq!(environments.apply(message(1, json!([{"value": "sdk-1", "key": "default"}])), 0).contradiction, None);
    let outcome = environments.apply(message(2, json!([{"value": "sdk-2"}])), 0);
    assert_eq!(outcome.contradiction, Some(KeyError::UnlistedSdk));
    assert_eq!(environments.variants()[0].config.credentials.sdk_key().expose(), "sdk-1");
    let again = environments.apply(message(2, json!([{"value": "sdk-1"}, {"value": "sdk-2", "expiry": 50}])), 0);
    assert_eq!(again.contradiction, None);
    assert!(!environments.expire(50));
    assert!(environments.expire(51));
}

proptest::proptest! {
    #[test]
    fn no_message_makes_it_panic(event in "(put|patch|delete|x)", data in "\\PC*") {
        let _ = AutoConfigMessage::read(&event, &data);
    }
}
