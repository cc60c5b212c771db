//! The hook `change-listener`: who else wants to know of changes?

use crate::bindings::change_listener as generated;
use crate::bindings::host::types;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{ItemHead, Plugin, Result};

/// Receives changes of flag data after they are served, apart from requests.
pub trait ChangeListener: Plugin {
    /// Passes on changes.
    ///
    /// # Errors
    ///
    /// The host repeats the call, with later changes, after a pause that grows to a minute. After
    /// [`PluginError::InvalidInput`](crate::PluginError::InvalidInput) these changes are left out.
    fn changed(&self, changes: &Changes) -> Result<()>;
}

/// Changes of one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// The vendor: `launchdarkly` or `harness`.
    pub vendor: String,
    /// Configured name of the environment.
    pub environment: String,
    /// The newest change of each item, in order of arrival. Empty if everything may have changed.
    pub items: Vec<ItemHead>,
    /// Number of changes that were left out, because the plugin was too slow.
    pub left_out: u32,
    /// Time of the first of these changes, in Unix milliseconds.
    pub at_ms: u64,
}

impl Changes {
    /// Creates changes of an environment, for tests.
    pub fn new(vendor: impl Into<String>, environment: impl Into<String>) -> Self {
        Self { vendor: vendor.into(), environment: environment.into(), ..Self::default() }
    }

    /// Adds an item that was changed.
    #[must_use]
    pub fn with_changed(mut self, kind: &str, key: &str, version: u64) -> Self {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.items.push(ItemHead { kind, key, version, is_deleted: false });
        self
    }
}

impl<P: ChangeListener + Exported> generated::Guest for Adapter<P> {
    fn changed(changes: generated::Changes) -> Result<(), types::PluginError> {
        let item = |it: generated::ChangedItem| ItemHead {
            kind: it.kind,
            key: it.key,
            version: it.version,
            is_deleted: it.deleted,
        };
        let changes = Changes {
            vendor: changes.vendor,
            environment: changes.environment,
            items: changes.items.into_iter().map(item).collect(),
            left_out: changes.left_out,
            at_ms: changes.at_ms,
        };
        call_plugin(|plugin: &P| plugin.changed(&changes))
    }
}
