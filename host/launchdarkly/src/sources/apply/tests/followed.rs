//! Data that another gateway published.

use std::sync::Arc;

use super::*;
use crate::data::Items;
use crate::store::content::with_changes;

fn items(flags: &[Value]) -> Items {
    let entry = |flag: &Value| {
        let path = format!("features/{}", flag["key"].as_str().expect("a key"));
        (Arc::from(path), Some(Arc::from(flag.to_string())))
    };
    with_changes(Items::default(), flags.iter().map(entry).collect()).expect("items")
}

#[tokio::test]
async fn what_is_newer_or_unknown_there_stays_until_what_is_published_is_exact() {
    let mut setup = Setup::without_plugin();
    setup.put(&[flag("newer", 5), flag("unknown", 1), flag("older", 1)]).await;
    setup.received();
    let first = items(&[flag("newer", 4), flag("older", 2)]);
    setup.applier.follow(None, &first, false).await;
    assert_eq!(setup.received(), [patch_event(&flag("older", 2))]);
    // What the leader changes or removes from there on does so here.
    let second = items(&[flag("newer", 6)]);
    setup.applier.follow(Some(&first), &second, false).await;
    assert_eq!(setup.received(), [put_event(&[flag("newer", 6), flag("unknown", 1)])]);
    setup.applier.follow(None, &second, true).await;
    assert_eq!(setup.received(), [put_event(&[flag("newer", 6)])]);
    // Lower versions count as well, as in a `put` from upstream.
    setup.applier.follow(Some(&second), &items(&[flag("newer", 2)]), true).await;
    assert_eq!(setup.received(), [put_event(&[flag("newer", 2)])]);
    setup.applier.follow(None, &items(&[flag("newer", 2)]), true).await;
    assert_eq!(setup.received(), [], "equal data is not announced");
}

#[tokio::test]
async fn plugins_transform_what_is_published() {
    let mut setup = Setup::with(&[rate(1, 2), flag("a", 1)]).await;
    let before = items(&[rate(1, 2), flag("a", 1)]);
    setup.applier.follow(Some(&before), &items(&[rate(1, 2), flag("a", 2)]), false).await;
    assert_eq!(setup.received(), [patch_event(&with_rate("a", 2, 2))]);
}
