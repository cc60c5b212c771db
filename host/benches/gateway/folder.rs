//! Puts plugins into a watched folder as operators do, and waits for their state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::Instant;

use crate::http::KeepAlive;
use crate::server::Server;

/// Time limit for a plugin to become active.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Polling interval.
const LOOK: Duration = Duration::from_millis(2);

/// A watched folder and the gateway that watches it.
pub(crate) struct Folder {
    path: PathBuf,
    operator: KeepAlive,
}

impl Folder {
    pub(crate) fn new(path: PathBuf, server: &Server) -> Result<Self> {
        Ok(Self { path, operator: server.operator()? })
    }

    /// Writes a file atomically: under another name first, so that it is never seen incomplete.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        put(&self.path, name, bytes)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.path.join(name))?)
    }

    /// Returns the generation of the current plan.
    pub(crate) fn generation(&mut self) -> Result<u64> {
        Ok(self.operator.json("/api/plugins")?["generation"].as_u64().unwrap_or(0))
    }

    /// Waits for the next plan after `generation` in which the plugin is in this state; returns its generation and row.
    pub(crate) fn wait_for(&mut self, generation: u64, file: &str, state: &str) -> Result<(u64, Value)> {
        let start = Instant::now();
        loop {
            let document = self.operator.json("/api/plugins")?;
            let now = document["generation"].as_u64().unwrap_or(0);
            let row = document["plugins"].as_array().and_then(|rows| rows.iter().find(|it| it["file"] == file));
            if let Some(row) = row
                && now > generation
                && row["state"] == state
            {
                return Ok((now, row.clone()));
            }
            if let Some(row) = row.filter(|it| !it["refused"].is_null()) {
                bail!("plugin `{file}` was refused: {}", row["refused"]["text"]);
            }
            if start.elapsed() > TIMEOUT {
                bail!("plugin `{file}` did not become {state} within {TIMEOUT:?}: {document:#}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Writes a file into a folder under another name and renames it.
pub(crate) fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let part = folder.join(format!("{name}.part"));
    std::fs::write(&part, bytes)?;
    std::fs::rename(part, folder.join(name))?;
    Ok(())
}
