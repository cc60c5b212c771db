//! Sources of environments and their data: the configuration, LaunchDarkly, or an archive.

pub(crate) mod apply;
pub(crate) mod archive;
pub(crate) mod assembly;
pub(crate) mod auto_config;
mod auto_config_state;
pub(crate) mod configured;
pub(crate) mod offline;
mod offline_updates;
mod persisted_list;
mod representation;
mod stream;
pub(crate) mod variant;
mod watch;

use std::path::PathBuf;

use yardarm_core::Lifecycle;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::StreamRegistry;

/// Dependencies that the gateway provides.
#[derive(Clone)]
pub struct Parts {
    /// Plugins.
    pub hooks: Hooks,
    /// Registry of open streams.
    pub streams: StreamRegistry,
    /// Owner of the tasks.
    pub lifecycle: Lifecycle,
    /// Folder for last good data; `None` persists nothing.
    pub data_dir: Option<PathBuf>,
}
