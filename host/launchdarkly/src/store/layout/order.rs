//! The order in which flags are written where readers may see a part of them: prerequisites first (U027).

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use yardarm_launchdarkly_eval::model::Flag;

use crate::data::Items;

#[derive(Deserialize)]
struct Prerequisites {
    #[serde(default)]
    prerequisites: Option<Vec<Prerequisite>>,
}

#[derive(Deserialize)]
struct Prerequisite {
    key: String,
}

/// A flag whose prerequisites are being written.
struct Open<'a> {
    flag: &'a Arc<Flag>,
    /// Keys that are still to be looked at, last one first.
    prerequisites: Vec<String>,
}

/// Returns all flags, each after its prerequisites; a flag of a cycle follows those that can precede it.
pub(super) fn flags(items: &Items) -> Vec<&Arc<Flag>> {
    let (mut ordered, mut seen) = (Vec::with_capacity(items.flags.len()), HashSet::new());
    for flag in items.flags.iter() {
        if !seen.insert(&**flag.key()) {
            continue;
        }
        // Not by recursion: chains may be longer than a stack.
        let mut path = vec![Open::new(flag)];
        while let Some(open) = path.last_mut() {
            let Some(key) = open.prerequisites.pop() else {
                ordered.extend(path.pop().map(|it| it.flag));
                continue;
            };
            if let Some(next) = items.flags.get(&key)
                && seen.insert(&**next.key())
            {
                path.push(Open::new(next));
            }
        }
    }
    ordered
}

impl<'a> Open<'a> {
    fn new(flag: &'a Arc<Flag>) -> Self {
        // A tombstone has none.
        let parsed = if flag.is_deleted() { None } else { serde_json::from_slice::<Prerequisites>(flag.json()).ok() };
        let prerequisites = parsed.and_then(|it| it.prerequisites).unwrap_or_default();
        Self { flag, prerequisites: prerequisites.into_iter().map(|it| it.key).rev().collect() }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    fn order(flags: &[(&str, &[&str])]) -> Vec<String> {
        let flag = |key: &str, on: &[&str]| {
            let on: Vec<_> = on.iter().map(|it| serde_json::json!({"key": it, "variation": 0})).collect();
            let text = serde_json::json!({"key": key, "version": 1, "prerequisites": on}).to_string();
            (key.to_owned(), Bytes::from(text))
        };
        let flags = flags.iter().map(|(key, on)| flag(key, on)).collect();
        let items = super::super::items(flags, Vec::new()).expect("items");
        super::flags(&items).into_iter().map(|it| it.key().to_string()).collect()
    }

    #[test]
    fn prerequisites_precede_the_flags_that_need_them() {
        // U027
        assert_eq!(order(&[]), Vec::<String>::new());
        let needs: &[(&str, &[&str])] = &[("a", &["c", "b"]), ("b", &["d"]), ("c", &[]), ("d", &[]), ("e", &["gone"])];
        assert_eq!(order(needs), ["c", "d", "b", "a", "e"]);
        // A cycle is an error of the vendor's data; everything is written once all the same.
        assert_eq!(order(&[("a", &["b"]), ("b", &["a"]), ("c", &["a", "c"])]), ["b", "a", "c"]);
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let keys: Vec<_> = (0..20_000).map(|number| format!("{number:06}")).collect();
        let needs: Vec<Vec<&str>> =
            (0..keys.len()).map(|at| keys.get(at + 1).map(String::as_str).into_iter().collect()).collect();
        let flags: Vec<_> = keys.iter().zip(&needs).map(|(key, on)| (key.as_str(), on.as_slice())).collect();
        let mut expected = keys.clone();
        expected.reverse();
        assert_eq!(order(&flags), expected);
    }
}
