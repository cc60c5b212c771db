//! Writes the folder that offline mode reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use serde_json::value::RawValue;

use super::folder::{FLAGS, KEYS, PREFIX, SEGMENTS, TARGETS};
use crate::environments::{Environments, HarnessEnvironment};

/// Why the folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file or folder cannot be written.
    #[error("`{path}` cannot be written: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// An environment has no data yet.
    #[error("environment `{0}` has no data yet")]
    NoData(String),
}

/// Writes all environments. Blocks.
pub(crate) fn export(environments: &Environments, folder: &Path) -> Result<(), ExportError> {
    environments.all().iter().try_for_each(|it| write(environments, it, folder))
}

fn write(environments: &Environments, environment: &Arc<HarnessEnvironment>, folder: &Path) -> Result<(), ExportError> {
    let label = &environment.label;
    let snapshot = environment.data.snapshot().ok_or_else(|| ExportError::NoData(label.to_string()))?;
    let items = snapshot.data().items();
    let folder = folder.join(format!("{PREFIX}{}", environment.identity.id));
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Io { path, source }
    };
    std::fs::create_dir_all(&folder).map_err(io(&folder))?;
    let (keys, targets) = (environments.keys_of(environment), environment.targets.listed());
    let flags: Vec<_> = items.flags.iter().filter_map(|it| raw(it.json())).collect();
    // With both kinds of rules, as upstream sent them.
    let segments: Vec<_> = items.segments.iter().filter_map(|it| raw(it.json())).collect();
    let about = format!(
        "# {}\n\nFeature flags of a Harness environment, for offline mode.\n\n- keys: {}\n- flags: {}\n- segments: {}\n- targets: {}\n",
        label.name(),
        keys.len(),
        flags.len(),
        segments.len(),
        targets.len(),
    );
    for (name, text) in [
        (KEYS, json!(keys).to_string()),
        (FLAGS, serde_json::to_string(&flags).expect("JSON is JSON")),
        (SEGMENTS, serde_json::to_string(&segments).expect("JSON is JSON")),
        (TARGETS, json!(targets).to_string()),
        ("README.md", about),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(io(&path))?;
    }
    Ok(())
}

fn raw(json: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}
