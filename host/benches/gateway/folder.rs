//! Puts plugins into a watched folder as operators do, and sees what becomes of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio::time::Instant;

use crate::http::KeepAlive;
use crate::server::Server;

/// How long a plugin may take to become active.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
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

    /// Writes a file as one should: under another name first, so that nobody sees half of it.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        put(&self.path, name, bytes)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.path.join(name))?)
    }

    /// Generation of the plan in force.
    pub(crate) fn generation(&mut self) -> Result<u64> {
        Ok(self.operator.json("/api/plugins")?["generation"].as_u64().unwrap_or(0))
    }

    /// Waits for the next plan after `generation` in which the plugin is in this state; gives its generation and row.
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
            if start.elapsed() > PATIENCE {
                bail!("plugin `{file}` did not become {state} within {PATIENCE:?}: {document:#}");
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
