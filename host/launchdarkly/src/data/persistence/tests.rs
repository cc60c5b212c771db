use std::time::Duration;

use serde_json::value::RawValue;
use yardarm_core::Lifecycle;

use super::super::message;
use super::restore::read_items;
use super::*;

fn saved(version: i64, json: Option<&str>) -> SavedItem<'static> {
    SavedItem { version, json: json.map(|it| it.to_owned().into()), facts: None }
}

#[tokio::test]
async fn an_unusable_item_is_left_out_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lifecycle = Lifecycle::new();
    let store = DataStore::open(folder.path(), &lifecycle).await;
    let versions = ["1e308", "1.5", "-1", "\"3\""].map(|it| format!(r#"{{"key":"odd","version":{it}}}"#));
    let others = [r#"{"key":"odd","version":1,"salt":7}"#, r#"{"key":"odd","version":1,"x":1e400}"#, "[", ""];
    for json in versions.into_iter().chain(others.map(str::to_owned)) {
        let scope = Key::of(&["vendor", &*json]);
        let good = r#"{"key":"good","version":1}"#;
        for kind in ["flag", "segment"] {
            for (key, item) in [
                ("deleted", saved(7, None)),
                ("good", saved(1, Some(good))),
                ("odd", saved(i64::MAX, Some(&json))),
                ("odd-too", saved(-1, None)),
                ("odd-two", saved(i64::MAX, None)),
            ] {
                store.put(SAVED_ITEMS, &scope.with(kind).with(key), &item).expect("room");
            }
        }
        store.put(SAVED_ITEMS, &scope.with("other").with("x"), &saved(1, None)).expect("room");
        let (read, unusable) = read_items(&store, &scope).await.expect("a store");
        assert_eq!(unusable, 7, "{json}");
        let flags: Vec<_> = read.flags.iter().map(|it| (&**it.key(), it.version(), it.is_deleted())).collect();
        let segments: Vec<_> = read.segments.iter().map(|it| (&**it.key(), it.version(), it.is_deleted())).collect();
        assert_eq!(flags, [("deleted", 7, true), ("good", 1, false)], "{json}");
        assert_eq!(segments, flags, "{json}");
    }
    assert!(lifecycle.stop(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn an_item_is_the_same_with_its_facts_and_without() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lifecycle = Lifecycle::new();
    let store = DataStore::open(folder.path(), &lifecycle).await;
    let flags = [
        r#"{"key":"a","version":7,"trackEvents":true,"debugEventsUntilDate":1700000000000,"clientSide":true}"#,
        r#"{"key":"another","version":0,"clientSideAvailability":{"usingMobileKey":true,"usingEnvironmentId":false}}"#,
        r#"{"version":3}"#,
    ];
    let segments = [r#"{"key":"a","version":7,"unbounded":true,"generation":1}"#, r#"{"key":"b","version":9}"#];
    let parsed = |kind, json: &str| {
        let raw = RawValue::from_string(json.to_owned()).expect("JSON");
        match kind {
            ItemKind::Flag => Item::Flag(Arc::new(message::flag("a", &raw).expect(json))),
            ItemKind::Segment => Item::Segment(Arc::new(message::segment("a", &raw).expect(json))),
        }
    };
    let all = flags.map(|it| (ItemKind::Flag, it)).into_iter().chain(segments.map(|it| (ItemKind::Segment, it)));
    for (number, (kind, json)) in all.enumerate() {
        let item = parsed(kind, json);
        for rules in [RULES, RULES + 1] {
            let scope = Key::of(&["vendor", &*format!("{number} {rules}")]);
            let facts = SavedFacts { rules, ..SavedFacts::of(&item).expect("a valid version") };
            let saved =
                SavedItem { version: item.version(), json: Some(json.into()), facts: Some(facts.to_json().into()) };
            store.put(SAVED_ITEMS, &scope.with(kind_part(kind)).with("a"), &saved).expect("room");
            let (read, unusable) = read_items(&store, &scope).await.expect("a store");
            assert_eq!(unusable, 0, "{json}");
            let read = match kind {
                ItemKind::Flag => Item::Flag(Arc::clone(read.flags.get("a").expect(json))),
                ItemKind::Segment => Item::Segment(Arc::clone(read.segments.get("a").expect(json))),
            };
            assert_eq!((read.json(), read.version()), (item.json(), item.version()), "{json}");
            assert_eq!(SavedFacts::of(&read), SavedFacts::of(&item), "{json}");
        }
    }
    // Facts that do not fit the record are no reason to leave it out, and wrong ones are not used.
    let scope = Key::of(&["vendor", "wrong facts"]);
    let of_segment = SavedFacts::of(&parsed(ItemKind::Segment, segments[0])).expect("a valid version").to_json();
    for facts in ["", "{}", r#"{"rules":1,"kind":{"Other":{}}}"#, r#"{"rules":1,"kind":{"Flag":{}}}"#, &of_segment] {
        let saved = SavedItem { version: 7, json: Some(flags[0].into()), facts: Some(facts.into()) };
        store.put(SAVED_ITEMS, &scope.with("flag").with("a"), &saved).expect("room");
        let (read, unusable) = read_items(&store, &scope).await.expect("a store");
        assert_eq!((unusable, read.flags.get("a").map(|it| it.version())), (0, Some(7)), "{facts}");
    }
    assert!(lifecycle.stop(Duration::from_secs(30)).await);
}

#[test]
fn a_selector_belongs_to_the_rules_by_which_the_data_was_checked() {
    let read = |saved: &str| selector(saved).map(|it| it.as_str().to_owned());
    let saved = saved_selector(&Selector::new("(p:a b:1)").expect("a selector"));
    assert_eq!(read(&saved).as_deref(), Some("(p:a b:1)"));
    for other in ["", "(p:a:1)", &format!("{} (p:a:1)", RULES + 1), &format!("{RULES} ")] {
        assert_eq!(read(other), None, "{other:?}");
    }
}

#[tokio::test]
async fn only_complete_data_of_the_same_owner_has_a_state() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let lifecycle = Lifecycle::new();
    let store = DataStore::open(folder.path(), &lifecycle).await;
    let config = EnvironmentConfig::for_tests;
    let label = EnvironmentLabel::new("vendor", "main");
    let scope = scope(&label);
    let good = r#"{"key":"good","version":1}"#;
    let state = Selector::new("(p:a:1)").expect("a selector");
    store.put(OWNERS, &scope.with(OWNER), &owner(&config("sdk-1"))).expect("room");
    store.put(SELECTORS, &scope.with(SELECTOR), &saved_selector(&state)).expect("room");
    store.put(SAVED_ITEMS, &scope.with("flag").with("good"), &saved(1, Some(good))).expect("room");
    let restored = read(&store, &label, &config("sdk-1")).await.expect("data");
    assert_eq!((restored.is_complete, restored.selector), (true, Some(state)));
    assert!(read(&store, &label, &config("sdk-2")).await.is_none(), "of another owner");
    store.put(SAVED_ITEMS, &scope.with("flag").with("odd"), &saved(-1, None)).expect("room");
    let restored = read(&store, &label, &config("sdk-1")).await.expect("data");
    assert_eq!((restored.is_complete, restored.selector), (false, None));
    assert!(lifecycle.stop(Duration::from_secs(30)).await);
}
