//! Last good data on disk, per environment: data from Harness before plugins, and the keys of the environment.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use yardarm_core::Lifecycle;
use yardarm_harness_eval::model::Target;
use yardarm_vendor::persisted::snapshot_file::SnapshotFile;
use yardarm_vendor::persisted::snapshot_writer::SnapshotWriter;

use super::item_list::ItemList;
use super::items::Items;
use super::received::{Readable, read_item};
use crate::identity::{Identity, KeyHash};

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
    pub(crate) targets: Arc<[Box<str>]>,
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    source: KeyHash,
    identity: Identity,
    keys: BTreeSet<KeyHash>,
    has_data: bool,
    flags: Vec<String>,
    segments: Vec<String>,
    /// As JSON, because attributes may be of any type.
    targets: String,
}

/// Starts to persist an environment; `persisted` is what its file contains already.
pub(crate) fn persist(
    folder: &Path,
    id: &str,
    persisted: PersistedEnvironment,
    lifecycle: &Lifecycle,
) -> SnapshotWriter<PersistedEnvironment> {
    SnapshotWriter::start(SnapshotFile::new(folder, id), lifecycle, persisted, Saved::of)
}

/// Reads what an earlier process persisted, by the configured key. Files that cannot be used are logged. Blocks.
pub(crate) fn read(folder: &Path) -> HashMap<KeyHash, Vec<PersistedEnvironment>> {
    let files = match SnapshotFile::all(folder) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "persisted data cannot be listed");
            return HashMap::new();
        }
    };
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for file in files {
        match file.read::<Saved>() {
            Ok(Some(saved)) => {
                let source = saved.source.clone();
                match saved.into_persisted() {
                    Some(persisted) => all.entry(source).or_default().push(persisted),
                    None => {
                        tracing::warn!(file = %file.path().display(), "persisted data does not fit this version and is ignored");
                    }
                }
            }
            Ok(None) => (),
            Err(error) => tracing::warn!(%error, "persisted data cannot be used"),
        }
    }
    all
}

impl Saved {
    fn of(persisted: &PersistedEnvironment) -> Option<Self> {
        let text = |json: &bytes::Bytes| String::from_utf8_lossy(json).into_owned();
        let items = persisted.items.clone().unwrap_or_default();
        Some(Self {
            source: persisted.source.clone()?,
            identity: persisted.identity.clone(),
            keys: persisted.keys.clone(),
            has_data: persisted.items.is_some(),
            flags: items.flags.iter().map(|it| text(it.json())).collect(),
            segments: items.segments.iter().map(|it| text(it.json())).collect(),
            targets: format!("[{}]", persisted.targets.join(",")),
        })
    }

    fn into_persisted(self) -> Option<PersistedEnvironment> {
        let id = self.identity.id.as_str();
        let items = Items { flags: readable(id, &self.flags), segments: readable(id, &self.segments) };
        let targets: Vec<&RawValue> = serde_json::from_str(&self.targets).ok()?;
        let targets = targets.iter().map(|it| it.get().into()).collect();
        Some(PersistedEnvironment {
            source: Some(self.source),
            identity: self.identity,
            keys: self.keys,
            items: self.has_data.then_some(items),
            targets,
        })
    }
}

/// Returns targets in the form that is persisted.
pub(crate) fn texts(targets: &[Target]) -> Arc<[Box<str>]> {
    targets.iter().filter_map(|it| Some(serde_json::to_string(it).ok()?.into())).collect()
}

impl PersistedEnvironment {
    /// Returns the targets. Those that cannot be read are left out.
    pub(crate) fn read_targets(&self) -> Vec<Target> {
        self.targets.iter().filter_map(|it| serde_json::from_str(it).ok()).collect()
    }
}

/// Returns the items that this version can read. Others are logged and left out.
fn readable<T: Readable>(id: &str, items: &[String]) -> ItemList<T> {
    let read = |json: &String| {
        let logged = |problem: &_| tracing::warn!(id, %problem, "persisted item is ignored");
        read_item(json).inspect_err(logged).ok()
    };
    items.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yardarm_harness_eval::model::{Flag, Segment};

    use super::*;

    fn persisted(source: &str) -> PersistedEnvironment {
        let flag = json!({"feature": "a", "version": 3, "variationToTargetMap": null, "new": {"x": 1}});
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
                flags: [Arc::new(Flag::read(flag).unwrap())].into_iter().collect(),
                segments: [Arc::new(Segment::read(segment).unwrap())].into_iter().collect(),
            }),
            targets: texts(&[Target {
                attributes: [("n".to_owned(), json!([1, null]))].into(),
                ..Target::unknown("ada")
            }]),
        }
    }

    #[test]
    fn persisted_data_is_found_by_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let before = persisted("configured");
        SnapshotFile::new(folder.path(), "id").write(&Saved::of(&before).unwrap()).unwrap();
        std::fs::write(folder.path().join("broken.snapshot"), "x").unwrap();
        let all = read(folder.path());
        assert_eq!(all.len(), 1);
        let [after] = &all[&KeyHash::of("configured")][..] else { panic!("one environment") };
        assert_eq!((&after.identity, &after.keys, &after.targets), (&before.identity, &before.keys, &before.targets));
        let json = |persisted: &PersistedEnvironment| {
            let items = persisted.items.as_ref().unwrap();
            items.iter().map(|it| it.json().clone()).collect::<Vec<_>>()
        };
        assert_eq!(json(after), json(&before));
    }

    #[test]
    fn entries_that_cannot_be_read_are_left_out() {
        let mut saved = Saved::of(&persisted("s")).unwrap();
        saved.flags.insert(0, "7".into());
        saved.segments.push("{".into());
        saved.targets = r#"[7,{"identifier":"ada"},{"identifier":"eve","attributes":[]}]"#.into();
        let after = saved.into_persisted().unwrap();
        assert_eq!(after.read_targets(), [Target::unknown("ada")]);
        let items = after.items.unwrap();
        assert_eq!((items.flags.len(), items.segments.len()), (1, 1));
    }

    #[test]
    fn no_data_is_not_the_same_as_no_flags() {
        for items in [None, Some(Items::default())] {
            let saved = Saved::of(&PersistedEnvironment { items: items.clone(), ..persisted("s") }).unwrap();
            assert_eq!(saved.into_persisted().unwrap().items.is_some(), items.is_some());
        }
        assert!(Saved::of(&PersistedEnvironment::default()).is_none(), "nothing is persisted without a key");
    }
}
