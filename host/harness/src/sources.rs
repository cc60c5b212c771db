//! The sources of environments and their data: configured API keys, a proxy key, a folder, or the database of a primary.

mod api_key;
mod environment_set;
mod key_bootstrap;
mod offline;
mod proxy_key;
mod replica;
mod retry;
mod sync_loop;
mod sync_source;

pub(crate) use self::key_bootstrap::KeyBootstrap;
pub use self::offline::{ExportError, OfflineError};
pub(crate) use self::offline::{OfflineTask, check, export};
pub(crate) use self::proxy_key::ProxyKeyTask;
pub(crate) use self::replica::ReplicaTask;

#[cfg(fuzzing)]
pub(crate) fn fuzz(text: &str) {
    proxy_key::fuzz(text);
}
