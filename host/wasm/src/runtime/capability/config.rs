//! The plugin's own configuration: the table `[plugin.config]` of its binding file.

use std::collections::BTreeMap;

use crate::runtime::guest::GuestState;
use crate::runtime::interface::v0_1;

/// A configuration in the forms that guests request.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The whole configuration, for `init`.
    pub(crate) whole: String,
    /// JSON text of each top-level value.
    keys: BTreeMap<String, String>,
}

impl Configuration {
    /// Serializes a configuration.
    pub(crate) fn new(config: &serde_json::Map<String, serde_json::Value>) -> Self {
        let keys = config.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
        Self { whole: serde_json::Value::Object(config.clone()).to_string(), keys }
    }
}

impl v0_1::host::config::Host for GuestState {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.plugin.config.keys.get(&key).cloned())
    }
}
