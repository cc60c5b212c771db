//! Last good data on disk, per environment: what upstream said, before plugins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use yardarm_core::Lifecycle;
use yardarm_core::snapshot_file::SnapshotFile;

use crate::dataset::{Item, Items};
use crate::environments::LdEnvironment;
use crate::model::{Flag, Segment};
use crate::upstream::message;

/// Changes that come in a burst are written once.
const SETTLE: Duration = Duration::from_millis(250);
/// Pause after a failed write, so that a full disk is not hammered.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// Writes the newest data of one environment in the background.
pub(crate) struct Keeper {
    newest: watch::Sender<Option<Items>>,
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// Digest of what names the environment beyond doubt: data of another project must not be served.
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

impl Keeper {
    /// Starts the task that writes.
    pub(crate) fn start(dir: &Path, environment: &Arc<LdEnvironment>, lifecycle: &Lifecycle) -> Self {
        let (newest, receiver) = watch::channel(None);
        let task = write_newest(file(dir, environment), Arc::clone(environment), receiver, lifecycle.clone());
        // Graceful: the last change before the end of the process is still written.
        lifecycle.spawn_graceful("snapshot writer", task);
        Self { newest }
    }

    /// Writes `items` soon.
    pub(crate) fn keep(&self, items: Items) {
        self.newest.send_replace(Some(items));
    }
}

/// Reads what an earlier process kept; `None` if there is nothing of use, which is logged. Blocks.
pub(crate) fn read(dir: &Path, environment: &LdEnvironment) -> Option<Items> {
    let file = file(dir, environment);
    let saved: Saved = match file.read() {
        Ok(saved) => saved?,
        Err(error) => {
            tracing::warn!(environment = %environment.label, %error, "kept data cannot be used");
            return None;
        }
    };
    if saved.owner != owner(environment) {
        tracing::warn!(environment = %environment.label, "kept data belongs to another SDK key and is ignored");
        return None;
    }
    let items = saved.into_items();
    if items.is_none() {
        tracing::warn!(environment = %environment.label, "kept data does not fit this version and is ignored");
    }
    items
}

async fn write_newest(
    file: SnapshotFile,
    environment: Arc<LdEnvironment>,
    mut newest: watch::Receiver<Option<Items>>,
    lifecycle: Lifecycle,
) {
    // After a failed write the newest data is tried again, whether or not more of it comes.
    let mut has_failed = false;
    loop {
        let (is_ending, is_unwritten) = tokio::select! {
            changed = newest.changed(), if !has_failed => match changed {
                Ok(()) => (tokio::time::timeout(SETTLE, lifecycle.token().cancelled()).await.is_ok(), true),
                // The applier is gone; its last word has been written or is seen below.
                Err(_) => (true, true),
            },
            () = tokio::time::sleep(AFTER_FAILURE), if has_failed => (false, true),
            () = lifecycle.token().cancelled() => (true, has_failed || newest.has_changed().unwrap_or(true)),
        };
        let items = if is_unwritten { newest.borrow_and_update().clone() } else { None };
        if let Some(items) = items {
            let saved = Saved::new(&items, owner(&environment));
            let file = file.clone();
            let written = tokio::task::spawn_blocking(move || file.write(&saved)).await;
            has_failed = matches!(written, Ok(Err(_)));
            if let Ok(Err(error)) = written {
                tracing::error!(environment = %environment.label, %error, "data could not be kept on disk");
            }
        }
        if is_ending {
            return;
        }
    }
}

fn file(dir: &Path, environment: &LdEnvironment) -> SnapshotFile {
    SnapshotFile::new(dir, &environment.label.to_string())
}

fn owner(environment: &LdEnvironment) -> String {
    let config = environment.config();
    // Where LaunchDarkly names the environment, its name outlives its keys.
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

    fn into_items(self) -> Option<Items> {
        let mut items = Items::default();
        for it in self.flags {
            let flag = match it.json {
                None => Flag::tombstone(&it.key, it.version),
                Some(json) => message::flag(&it.key, &RawValue::from_string(json).ok()?).ok()?,
            };
            items.flags.push(Arc::new(flag));
        }
        for it in self.segments {
            let segment = match it.json {
                None => Segment::tombstone(&it.key, it.version),
                Some(json) => message::segment(&it.key, &RawValue::from_string(json).ok()?).ok()?,
            };
            items.segments.push(Arc::new(segment));
        }
        Some(items.sorted())
    }
}
