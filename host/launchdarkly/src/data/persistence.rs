//! Last good data on disk, per environment: the data from upstream, before plugins.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use yardarm_core::{EnvironmentLabel, Lifecycle};
use yardarm_launchdarkly_eval::model::{Flag, MAX_VERSION, Segment};
use yardarm_vendor::persisted::snapshot_file::SnapshotFile;
use yardarm_vendor::persisted::snapshot_writer::SnapshotWriter;

use super::items::{Item, Items};
use super::message;
use crate::config::{EnvironmentConfig, LiveConfig};

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Digest of the ID or key of the environment: data of another project must not be served.
    owner: String,
    flags: Vec<SavedItem>,
    segments: Vec<SavedItem>,
}

#[derive(Serialize, Deserialize)]
struct SavedItem {
    key: String,
    version: i64,
    /// `None` for a deleted item.
    json: Option<String>,
}

/// Starts the task that persists the newest data of one environment.
pub(crate) fn persist(
    dir: &Path,
    label: &EnvironmentLabel,
    settings: &LiveConfig,
    lifecycle: &Lifecycle,
) -> SnapshotWriter<Option<Items>> {
    let settings = settings.clone();
    let save = move |items: &Option<Items>| items.as_ref().map(|items| Saved::new(items, owner(&settings.get())));
    SnapshotWriter::start(file(dir, label), lifecycle, None, save)
}

/// Reads the data that an earlier process persisted; `None` without usable data, which is logged. Blocks.
pub(crate) fn read(dir: &Path, label: &EnvironmentLabel, config: &EnvironmentConfig) -> Option<Items> {
    let file = file(dir, label);
    let saved: Saved = match file.read() {
        Ok(saved) => saved?,
        Err(error) => {
            tracing::warn!(%error, "kept data cannot be used");
            return None;
        }
    };
    if saved.owner != owner(config) {
        tracing::warn!("kept data belongs to another SDK key and is ignored");
        return None;
    }
    let (items, unusable) = saved.into_items();
    if unusable > 0 {
        tracing::warn!(unusable, "kept items do not fit this version and are left out");
    }
    Some(items).filter(|it| unusable == 0 || !it.is_empty())
}

fn file(dir: &Path, label: &EnvironmentLabel) -> SnapshotFile {
    SnapshotFile::new(dir, &label.to_string())
}

fn owner(config: &EnvironmentConfig) -> String {
    // If LaunchDarkly lists the environment, its ID outlives its keys.
    let name = match (&config.identity, config.credentials.env_id()) {
        (Some(_), Some(id)) => id.as_str(),
        _ => config.credentials.sdk_key().expose(),
    };
    hex::encode(Sha256::digest(name.as_bytes()))
}

impl SavedItem {
    fn of(item: &Item) -> Self {
        let json = || String::from_utf8_lossy(item.json()).into_owned();
        Self { key: item.key().to_string(), version: item.version(), json: (!item.is_deleted()).then(json) }
    }
}

impl Saved {
    fn new(items: &Items, owner: String) -> Self {
        Self {
            owner,
            flags: items.flags.iter().map(|it| SavedItem::of(&Item::Flag(Arc::clone(it)))).collect(),
            segments: items.segments.iter().map(|it| SavedItem::of(&Item::Segment(Arc::clone(it)))).collect(),
        }
    }

    /// All usable items, and the number of unusable ones, which would be refused from upstream too.
    fn into_items(self) -> (Items, usize) {
        let mut items = Items::default();
        let saved = self.flags.len() + self.segments.len();
        let raw = |json: String| RawValue::from_string(json).ok();
        items.flags.extend(self.flags.into_iter().filter_map(|it| {
            let flag = match it.json {
                None => version(it.version).map(|version| Flag::tombstone(&it.key, version)),
                Some(json) => raw(json).and_then(|json| message::flag(&it.key, &json).ok()),
            };
            flag.map(Arc::new)
        }));
        items.segments.extend(self.segments.into_iter().filter_map(|it| {
            let segment = match it.json {
                None => version(it.version).map(|version| Segment::tombstone(&it.key, version)),
                Some(json) => raw(json).and_then(|json| message::segment(&it.key, &json).ok()),
            };
            segment.map(Arc::new)
        }));
        let unusable = saved - items.flags.len() - items.segments.len();
        (items, unusable)
    }
}

/// The version of a deleted item, if it is valid; an invalid one would block every later version of the item.
fn version(persisted: i64) -> Option<i64> {
    Some(persisted).filter(|it| (0..=MAX_VERSION).contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(key: &str, version: i64, json: Option<&str>) -> SavedItem {
        SavedItem { key: key.to_owned(), version, json: json.map(str::to_owned) }
    }

    #[test]
    fn an_unusable_item_is_left_out_alone() {
        let versions = ["1e308", "1.5", "-1", "\"3\""].map(|it| format!(r#"{{"key":"odd","version":{it}}}"#));
        let others = [r#"{"key":"odd","version":1,"salt":7}"#, r#"{"key":"odd","version":1,"x":1e400}"#, "[", ""];
        for json in versions.into_iter().chain(others.map(str::to_owned)) {
            let all = || {
                let good = r#"{"key":"good","version":1}"#;
                vec![
                    saved("deleted", 7, None),
                    saved("good", 1, Some(good)),
                    saved("odd", i64::MAX, Some(&json)),
                    saved("odd-too", -1, None),
                    saved("odd-two", i64::MAX, None),
                ]
            };
            let folder = tempfile::tempdir().expect("a temporary folder");
            let file = SnapshotFile::new(folder.path(), "e");
            file.write(&Saved { owner: String::new(), flags: all(), segments: all() }).expect("a file");
            let (read, unusable) = file.read::<Saved>().expect("a file").expect("content").into_items();
            assert_eq!(unusable, 6, "{json}");
            let flags: Vec<_> = read.flags.iter().map(|it| (&**it.key(), it.version(), it.is_deleted())).collect();
            let segments: Vec<_> =
                read.segments.iter().map(|it| (&**it.key(), it.version(), it.is_deleted())).collect();
            assert_eq!(flags, [("deleted", 7, true), ("good", 1, false)], "{json}");
            assert_eq!(segments, flags, "{json}");
        }
    }
}
