//! The sources of environments and their data: configured API keys, a proxy key, or a folder.

mod api_key;
mod environment_set;
mod key_bootstrap;
mod offline;
mod proxy_key;
mod retry;
mod sync_loop;
mod sync_source;

pub(crate) use self::key_bootstrap::KeyBootstrap;
pub use self::offline::{ExportError, OfflineError};
pub(crate) use self::offline::{OfflineTask, check, export};
pub(crate) use self::proxy_key::ProxyKeyTask;

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    proxy_key::fuzz(text);
}
