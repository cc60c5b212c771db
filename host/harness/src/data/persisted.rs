//! Last good data on disk, per environment: data from Harness before plugins, and the keys of the environment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use yardarm_core::data_store::tables::{ENVIRONMENTS, TARGETS, Table};
use yardarm_core::data_store::{Changes, DataStore, Key, StoreError, TrackedState};
use yardarm_harness_eval::model::Target;
use yardarm_vendor::persisted::{SAVED_ITEMS, SavedItem};

use super::item_list::ItemList;
use super::items::{Domain, Item, Items};
use super::received::{Readable, read_item};
use crate::identity::{Identity, KeyHash, VENDOR};

const SAVED_ENVIRONMENTS: Table<SavedEnvironment> = ENVIRONMENTS.of();
/// Targets as JSON, because attributes may be of any type.
const SAVED_TARGETS: Table<String> = TARGETS.of();

/// What is persisted of an environment.
#[derive(Clone, Default)]
pub(crate) struct PersistedEnvironment {
    /// Hash of the configured key that leads to the environment; nothing is persisted without it.
    pub(crate) source: Option<KeyHash>,
    pub(crate) identity: Identity,
    pub(crate) keys: BTreeSet<KeyHash>,
    /// `None` before the first download.
    pub(crate) items: Option<Items>,
    /// Targets that upstream listed, as JSON, because parsed targets take many times as much memory.
    pub(crate) targets: Arc<[TargetText]>,
    /// Whether the store holds exactly this.
    pub(crate) is_stored: bool,
}

/// A target in the form that is persisted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetText {
    identifier: Box<str>,
    json: Box<str>,
}

/// The record of an environment.
#[derive(PartialEq, Serialize, Deserialize)]
struct SavedEnvironment {
    source: KeyHash,
    identity: Identity,
    keys: BTreeSet<KeyHash>,
    has_data: bool,
    /// Identifiers of flags and segments, in upstream's order.
    flags: Vec<Arc<str>>,
    segments: Vec<Arc<str>>,
}

/// Starts to persist an environment.
pub(crate) fn persist(
    store: &DataStore,
    id: &str,
    persisted: PersistedEnvironment,
) -> TrackedState<PersistedEnvironment> {
    let (scope, is_stored) = (Key::of(&[VENDOR, id]), persisted.is_stored);
    store.track(&format!("{VENDOR}/{id}"), (persisted, is_stored), move |before, after, changes| {
        write(&scope, before, after, changes);
    })
}

/// Writes what differs between two states.
fn write(scope: &Key, before: Option<&PersistedEnvironment>, after: &PersistedEnvironment, changes: &mut Changes<'_>) {
    let nothing = PersistedEnvironment::default();
    let before = before.filter(|_| after.source.is_some()).unwrap_or_else(|| {
        changes.remove_all(SAVED_ENVIRONMENTS, scope);
        changes.remove_all(SAVED_ITEMS, scope);
        changes.remove_all(SAVED_TARGETS, scope);
        &nothing
    });
    if after.source.is_none() {
        return;
    }
    if !before.has_record_of(after)
        && let Some(newest) = SavedEnvironment::of(after)
    {
        changes.put(SAVED_ENVIRONMENTS, scope, &newest);
    }
    write_items(scope, before.items.as_ref(), after.items.as_ref(), changes);
    if !Arc::ptr_eq(&before.targets, &after.targets) {
        let texts = |all: &PersistedEnvironment| -> BTreeMap<Box<str>, Box<str>> {
            all.targets.iter().map(|it| (it.identifier.clone(), it.json.clone())).collect()
        };
        let mut gone = texts(before);
        for (identifier, json) in texts(after) {
            if gone.remove(&identifier).as_ref() != Some(&json) {
                changes.put(SAVED_TARGETS, &scope.with(&*identifier), &json.into_string());
            }
        }
        gone.keys().for_each(|it| changes.remove(SAVED_TARGETS, &scope.with(&**it)));
    }
}

fn write_items(scope: &Key, before: Option<&Items>, after: Option<&Items>, changes: &mut Changes<'_>) {
    let mut put = |item: &Item| {
        let json = Some(String::from_utf8_lossy(item.json()));
        let key = scope.with(item.domain().kind()).with(&**item.identifier());
        changes.put(SAVED_ITEMS, &key, &SavedItem { version: item.version(), json, facts: None });
    };
    if let Some(replaced) = before.zip(after).and_then(|(before, after)| after.replaced_since(before)) {
        return replaced.iter().for_each(&mut put);
    }
    let key = |item: &Item| scope.with(item.domain().kind()).with(&**item.identifier());
    let all = |items: Option<&Items>| items.cloned().unwrap_or_default();
    let mut gone: BTreeMap<(Domain, Arc<str>), Item> =
        all(before).iter().map(|it| ((it.domain(), Arc::clone(it.identifier())), it)).collect();
    for item in all(after).iter() {
        let old = gone.remove(&(item.domain(), Arc::clone(item.identifier())));
        let is_same = |old: &Item| (old.version(), old.json()) == (item.version(), item.json());
        if !old.as_ref().is_some_and(is_same) {
            put(&item);
        }
    }
    gone.values().for_each(|it| changes.remove(SAVED_ITEMS, &key(it)));
}

/// Reads what an earlier process persisted, by the configured key. What cannot be used is logged. Blocks.
pub(crate) fn read(store: &DataStore) -> HashMap<KeyHash, Vec<PersistedEnvironment>> {
    let mut saved = Vec::new();
    let listed = store.read(SAVED_ENVIRONMENTS, &Key::of(&[VENDOR]), |record| match (record.key, record.value) {
        ([_, id], Some(value)) => saved.push((String::from_utf8_lossy(id).into_owned(), value)),
        _ => tracing::warn!("persisted data does not fit this version and is ignored"),
    });
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    let read = saved.into_iter().try_for_each(|(id, saved)| {
        all.entry(saved.source.clone()).or_default().push(saved.read(store, &id)?);
        Ok(())
    });
    if let Err(error) = listed.and(read) {
        tracing::warn!(%error, "persisted data cannot be used");
    }
    all
}

impl SavedEnvironment {
    /// Returns `None` if nothing is persisted.
    fn of(persisted: &PersistedEnvironment) -> Option<Self> {
        let items = persisted.items.as_ref();
        Some(Self {
            source: persisted.source.clone()?,
            identity: persisted.identity.clone(),
            keys: persisted.keys.clone(),
            has_data: items.is_some(),
            flags: items.iter().flat_map(|it| it.flags.iter()).map(|it| Arc::clone(&it.feature)).collect(),
            segments: items.iter().flat_map(|it| it.segments.iter()).map(|it| Arc::clone(&it.identifier)).collect(),
        })
    }

    /// Adds the items and targets of the environment.
    fn read(self, store: &DataStore, id: &str) -> Result<PersistedEnvironment, StoreError> {
        let scope = Key::of(&[VENDOR, id]);
        let (flags, are_all_flags) = readable(store, &scope.with(Domain::Flag.kind()), id, &self.flags)?;
        let (segments, are_all_segments) =
            readable(store, &scope.with(Domain::TargetSegment.kind()), id, &self.segments)?;
        let mut targets = Vec::new();
        store.read(SAVED_TARGETS, &scope, |record| {
            if let ([_, _, identifier], Some(json)) = (record.key, record.value) {
                targets.push(TargetText { identifier: String::from_utf8_lossy(identifier).into(), json: json.into() });
            }
        })?;
        Ok(PersistedEnvironment {
            source: Some(self.source),
            identity: self.identity,
            keys: self.keys,
            items: self.has_data.then_some(Items { flags, segments }),
            targets: targets.into(),
            is_stored: are_all_flags && are_all_segments,
        })
    }
}

/// Returns targets in the form that is persisted.
pub(crate) fn texts(targets: &[Target]) -> Arc<[TargetText]> {
    let text = |it: &Target| {
        Some(TargetText { identifier: it.identifier.as_str().into(), json: serde_json::to_string(it).ok()?.into() })
    };
    targets.iter().filter_map(text).collect()
}

impl PersistedEnvironment {
    /// Whether the record of the environment, without its items and targets, is the same.
    fn has_record_of(&self, other: &Self) -> bool {
        let has_same_items = match (&self.items, &other.items) {
            (Some(before), Some(after)) => after.replaced_since(before).is_some(),
            (None, None) => true,
            _ => false,
        };
        has_same_items && (&self.source, &self.identity, &self.keys) == (&other.source, &other.identity, &other.keys)
    }

    /// Returns the targets. Those that cannot be read are left out.
    pub(crate) fn read_targets(&self) -> Vec<Target> {
        self.targets.iter().filter_map(|it| serde_json::from_str(&it.json).ok()).collect()
    }
}

/// Returns the items that this version can read, in this order, and whether these are all. Others are logged and left
/// out.
fn readable<T: Readable>(
    store: &DataStore,
    scope: &Key,
    id: &str,
    order: &[Arc<str>],
) -> Result<(ItemList<T>, bool), StoreError> {
    let (mut items, mut are_all) = (HashMap::new(), true);
    store.read(SAVED_ITEMS, scope, |record| {
        let json = record.value.and_then(|it| it.json).unwrap_or_default();
        match read_item::<T>(&json) {
            Ok(item) => drop(items.insert(Arc::clone(item.identifier()), item)),
            Err(problem) => {
                tracing::warn!(id, %problem, "persisted item is ignored");
                are_all = false;
            }
        }
    })?;
    are_all &= items.len() == order.len();
    Ok((order.iter().filter_map(|it| items.remove(it)).collect(), are_all))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use yardarm_core::Lifecycle;
    use yardarm_harness_eval::model::{Flag, Segment};

    use super::*;

    fn flag(feature: &str, version: i64) -> Arc<Flag> {
        let json = json!({"feature": feature, "version": version, "variationToTargetMap": null, "new": {"x": 1}});
        Arc::new(Flag::read(json).unwrap())
    }

    fn target(identifier: &str, number: i64) -> Target {
        Target { attributes: [("n".to_owned(), json!([number, null]))].into(), ..Target::unknown(identifier) }
    }

    fn persisted(source: &str) -> PersistedEnvironment {
        let segment = json!({"identifier": "s", "servingRules": [], "rules": null});
        PersistedEnvironment {
            source: Some(KeyHash::of(source)),
            identity: Identity {
                id: "id".into(),
                environment: "prod".into(),
                cluster: "2".into(),
                ..Identity::default()
            },
            keys: [KeyHash::of("k")].into(),
            items: Some(Items {
                flags: [flag("b", 3), flag("a", 1)].into_iter().collect(),
                segments: [Arc::new(Segment::read(segment).unwrap())].into_iter().collect(),
            }),
            targets: texts(&[target("ada", 1), target("eve", 2)]),
            is_stored: false,
        }
    }

    /// Writes these states one after the other, and returns what a later process reads.
    async fn restored(states: &[PersistedEnvironment]) -> HashMap<KeyHash, Vec<PersistedEnvironment>> {
        let folder = tempfile::tempdir().unwrap();
        for state in states {
            let lifecycle = Lifecycle::new();
            let store = DataStore::open(folder.path(), &lifecycle).await;
            let before = read(&store).into_values().flatten().next().unwrap_or_default();
            persist(&store, "id", before).replace(state.clone());
            assert!(lifecycle.stop(Duration::from_secs(30)).await);
        }
        let lifecycle = Lifecycle::new();
        let read = read(&DataStore::open(folder.path(), &lifecycle).await);
        assert!(lifecycle.stop(Duration::from_secs(30)).await);
        read
    }

    fn described(persisted: &PersistedEnvironment) -> impl PartialEq + std::fmt::Debug {
        let items = persisted.items.clone().map(|it| it.iter().map(|it| it.json().clone()).collect::<Vec<_>>());
        (persisted.identity.clone(), persisted.keys.clone(), persisted.targets.clone(), items)
    }

    #[tokio::test]
    async fn persisted_data_is_found_by_its_key() {
        let first = persisted("configured");
        let mut second = first.clone();
        second.keys.insert(KeyHash::of("another"));
        second.targets = texts(&[target("eve", 3), target("zoe", 2)]);
        second.items = Some(Items { flags: [flag("c", 1), flag("b", 4)].into_iter().collect(), ..Items::default() });
        for states in [&[first.clone()][..], &[first.clone(), second.clone()], &[second.clone(), first.clone()]] {
            let all = restored(states).await;
            assert_eq!(all.len(), 1);
            let [after] = &all[&KeyHash::of("configured")][..] else { panic!("one environment") };
            assert_eq!(described(after), described(states.last().unwrap()));
            assert!(after.is_stored);
        }
    }

    #[tokio::test]
    async fn entries_that_cannot_be_read_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::new();
        let store = DataStore::open(folder.path(), &lifecycle).await;
        let scope = Key::of(&[VENDOR, "id"]);
        let item = |json: &'static str| SavedItem { version: 1, json: Some(json.into()), facts: None };
        let order = |all: &[&str]| all.iter().map(|it| Arc::from(*it)).collect();
        let saved = SavedEnvironment {
            flags: order(&["odd", "a"]),
            segments: order(&["s"]),
            ..SavedEnvironment::of(&persisted("s")).unwrap()
        };
        store.put(SAVED_ENVIRONMENTS, &scope, &saved).unwrap();
        for (kind, key, json) in [
            ("flag", "odd", "7"),
            ("flag", "a", r#"{"feature":"a","version":1}"#),
            ("segment", "odd", "{"),
            ("segment", "s", r#"{"identifier":"s"}"#),
        ] {
            store.put(SAVED_ITEMS, &scope.with(kind).with(key), &item(json)).unwrap();
        }
        for (key, json) in
            [("x", "7"), ("ada", r#"{"identifier":"ada"}"#), ("eve", r#"{"identifier":"eve","attributes":[]}"#)]
        {
            store.put(SAVED_TARGETS, &scope.with(key), &json.to_owned()).unwrap();
        }
        let all = read(&store);
        let [after] = &all[&KeyHash::of("s")][..] else { panic!("one environment") };
        assert_eq!(after.read_targets(), [Target::unknown("ada")]);
        let items = after.items.as_ref().unwrap();
        assert_eq!((items.flags.len(), items.segments.len(), after.is_stored), (1, 1, false));
        assert!(lifecycle.stop(Duration::from_secs(30)).await);
    }

    #[tokio::test]
    async fn no_data_is_not_the_same_as_no_flags() {
        for items in [None, Some(Items::default())] {
            let all = restored(&[PersistedEnvironment { items: items.clone(), ..persisted("s") }]).await;
            assert_eq!(all[&KeyHash::of("s")][0].items.is_some(), items.is_some());
        }
        let all = restored(&[persisted("s"), PersistedEnvironment::default()]).await;
        assert!(all.is_empty(), "nothing is persisted without a key");
    }
}
