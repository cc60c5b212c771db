//! The hook `background`: work apart from calls.

use crate::bindings::background as generated;
use crate::bindings::host::types;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Result};

/// Values by key: 1 to 256 bytes each.
pub type Published = Vec<(String, Vec<u8>)>;

/// Fetches or computes what other hooks of the plugin read with [`shared`](crate::shared), such as a key set or a table.
pub trait Background: Plugin {
    /// Returns what is published from now on, by key, in place of everything before; `None` leaves it as it is. Up to 10,000
    /// values and 4 MiB.
    ///
    /// Called once when the plugin is loaded, and then at the interval of the binding.
    ///
    /// # Errors
    ///
    /// What was published before stays, and the host calls again soon.
    fn refresh(&self) -> Result<Option<Published>>;
}

impl<P: Background + Exported> generated::Guest for Adapter<P> {
    fn refresh() -> Result<Option<Vec<generated::Value>>, types::PluginError> {
        let values = call_plugin(P::refresh)?;
        let value = |(key, value)| generated::Value { key, value };
        Ok(values.map(|values| values.into_iter().map(value).collect()))
    }
}
