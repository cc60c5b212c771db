//! Sources of environments and their data: the configuration, LaunchDarkly, or an archive.

pub(crate) mod apply;
pub(crate) mod archive;
pub(crate) mod assembly;
pub(crate) mod auto_config;
mod auto_config_state;
pub(crate) mod configured;
mod fleet;
mod list_cache;
pub(crate) mod offline;
mod offline_updates;
mod persisted_list;
mod representation;
mod shared_list;
mod stream;
pub(crate) mod upstream_relay;
pub(crate) mod variant;
mod watch;
