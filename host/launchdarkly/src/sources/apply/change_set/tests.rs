use yardarm_launchdarkly_eval::model::Flag;

use super::*;

fn tombstone(key: &str, version: i64) -> Item {
    Item::Flag(std::sync::Arc::new(Flag::tombstone(key, version)))
}

fn items(all: &[(&str, i64)]) -> Items {
    let mut items = Items::default();
    all.iter().for_each(|(key, version)| items.insert(tombstone(key, *version)));
    items
}

#[test]
fn a_change_set_is_one_change() {
    let held = items(&[("a", 5), ("b", 5)]);
    let described = |merged: &[(&str, i64)]| match change_between(&held, items(merged)) {
        None => "nothing".to_owned(),
        Some(Change::Patch(item)) => format!("patch {}", item.key()),
        Some(Change::Group(items)) => format!("group of {}", items.len()),
        Some(Change::Put(_)) => "put".to_owned(),
        Some(Change::SegmentsChanged) => "members of segments".to_owned(),
    };
    assert_eq!(described(&[("a", 5), ("b", 5)]), "nothing");
    assert_eq!(described(&[("a", 6), ("b", 5)]), "patch a");
    assert_eq!(described(&[("a", 6), ("b", 5), ("c", 0)]), "group of 2");
    assert_eq!(described(&[("a", 4), ("b", 5)]), "put", "a lower version");
    assert_eq!(described(&[("a", 6), ("b", 4)]), "put");
    assert_eq!(described(&[("a", 6)]), "put", "gone without a tombstone");
    let names: Vec<String> = (0..=MAX_PATCHES).map(|it| format!("f{it}")).collect();
    let many: Vec<_> = names.iter().map(|it| (it.as_str(), 1)).chain([("a", 5), ("b", 5)]).collect();
    assert_eq!(described(&many), "put", "too many");
    assert_eq!(described(&many[1..]), format!("group of {MAX_PATCHES}"));
}

#[test]
fn segments_come_before_the_flags_that_refer_to_them() {
    let mut merged = items(&[("a", 1)]);
    merged.insert(Item::tombstone(crate::data::ItemKind::Segment, "s", 1));
    let Some(Change::Group(group)) = change_between(&Items::default(), merged) else { panic!("a group") };
    let keys: Vec<_> = group.iter().map(|it| it.key().to_string()).collect();
    assert_eq!(keys, ["s", "a"]);
}
