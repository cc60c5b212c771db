//! Last good data on disk, per environment: what Harness said of it, before plugins, and which keys open it.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use yardarm_core::keeper::Keeper;
use yardarm_core::snapshot_file::SnapshotFile;
use yardarm_core::{EnvironmentLabel, Lifecycle};

use crate::credential::KeyHash;
use crate::dataset::Items;
use crate::environments::Identity;
use crate::model::{Flag, Segment, Target};

/// What is known of an environment besides what changes from connection to connection.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Hash of the configured key that led here; without one nothing is kept.
    pub(crate) source: Option<KeyHash>,
    pub(crate) identity: Identity,
    pub(crate) keys: BTreeSet<KeyHash>,
    /// `None` before the first download.
    pub(crate) items: Option<Items>,
    /// Those that upstream listed.
    pub(crate) targets: Vec<Target>,
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
    /// As JSON, because attributes may be anything.
    targets: String,
}

/// Starts to keep what is known of an environment; `kept` is what its file holds already.
pub(crate) fn keep(
    folder: &Path,
    label: &EnvironmentLabel,
    id: &str,
    kept: Kept,
    lifecycle: &Lifecycle,
) -> Keeper<Kept> {
    Keeper::start(SnapshotFile::new(folder, id), label.clone(), lifecycle, kept, Saved::of)
}

/// Reads what an earlier process kept of environments, by the key that led there. What is of no use is logged. Blocks.
pub(crate) fn read(folder: &Path) -> HashMap<KeyHash, Vec<Kept>> {
    let files = match SnapshotFile::all(folder) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "kept data cannot be looked for");
            return HashMap::new();
        }
    };
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for file in files {
        match file.read::<Saved>() {
            Ok(Some(saved)) => {
                let source = saved.source.clone();
                match saved.into_kept() {
                    Some(kept) => all.entry(source).or_default().push(kept),
                    None => {
                        tracing::warn!(file = %file.path().display(), "kept data does not fit this version and is ignored");
                    }
                }
            }
            Ok(None) => (),
            Err(error) => tracing::warn!(%error, "kept data cannot be used"),
        }
    }
    all
}

impl Saved {
    fn of(kept: &Kept) -> Option<Self> {
        let text = |json: &bytes::Bytes| String::from_utf8_lossy(json).into_owned();
        let items = kept.items.clone().unwrap_or_default();
        Some(Self {
            source: kept.source.clone()?,
            identity: kept.identity.clone(),
            keys: kept.keys.clone(),
            has_data: kept.items.is_some(),
            flags: items.flags.iter().map(|it| text(it.json())).collect(),
            segments: items.segments.iter().map(|it| text(it.json())).collect(),
            targets: serde_json::to_string(&kept.targets).ok()?,
        })
    }

    fn into_kept(self) -> Option<Kept> {
        let flag = |json: String| Flag::read(serde_json::from_str(&json).ok()?).ok().map(Arc::new);
        let segment = |json: String| Segment::read(serde_json::from_str(&json).ok()?).ok().map(Arc::new);
        let items = Items {
            flags: self.flags.into_iter().map(flag).collect::<Option<_>>()?,
            segments: self.segments.into_iter().map(segment).collect::<Option<_>>()?,
        };
        Some(Kept {
            source: Some(self.source),
            identity: self.identity,
            keys: self.keys,
            items: self.has_data.then_some(items),
            targets: serde_json::from_str(&self.targets).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kept(source: &str) -> Kept {
        let flag = json!({"feature": "a", "version": 3, "variationToTargetMap": null, "new": {"x": 1}});
        let segment = json!({"identifier": "s", "servingRules": [], "rules": null});
        Kept {
            source: Some(KeyHash::of(source)),
            identity: Identity {
                id: "id".into(),
                environment: "prod".into(),
                cluster: "2".into(),
                ..Identity::default()
            },
            keys: [KeyHash::of("k")].into(),
            items: Some(Items {
                flags: vec![Arc::new(Flag::read(flag).unwrap())],
                segments: vec![Arc::new(Segment::read(segment).unwrap())],
            }),
            targets: vec![Target { attributes: [("n".to_owned(), json!([1, null]))].into(), ..Target::unknown("ada") }],
        }
    }

    #[test]
    fn what_was_kept_comes_back_to_whom_it_belongs() {
        let folder = tempfile::tempdir().unwrap();
        let before = kept("configured");
        SnapshotFile::new(folder.path(), "id").write(&Saved::of(&before).unwrap()).unwrap();
        std::fs::write(folder.path().join("broken.snapshot"), "x").unwrap();
        let all = read(folder.path());
        assert_eq!(all.len(), 1);
        let [after] = &all[&KeyHash::of("configured")][..] else { panic!("one environment") };
        assert_eq!((&after.identity, &after.keys, &after.targets), (&before.identity, &before.keys, &before.targets));
        let json = |kept: &Kept| {
            let items = kept.items.as_ref().unwrap();
            (items.flags[0].json().clone(), items.segments[0].json().clone())
        };
        assert_eq!(json(after), json(&before));
    }

    #[test]
    fn no_data_is_not_the_same_as_no_flags() {
        for items in [None, Some(Items::default())] {
            let saved = Saved::of(&Kept { items: items.clone(), ..kept("s") }).unwrap();
            assert_eq!(saved.into_kept().unwrap().items.is_some(), items.is_some());
        }
        assert!(Saved::of(&Kept::default()).is_none(), "of what nothing leads to, nothing is kept");
    }
}
