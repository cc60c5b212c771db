use std::time::Duration;

use yardarm_core::Lifecycle;

use super::restore::read_items;
use super::*;

fn saved(version: i64, json: Option<&str>) -> SavedItem<'static> {
    SavedItem { version, json: json.map(|it| it.to_owned().into()) }
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
