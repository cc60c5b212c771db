//! What the plugin's own [`Background`](crate::Background) task published last: the same for all calls and instances of
//! one version of the plugin.
//!
//! ```
//! use yardarm_plugin::{shared, testing};
//!
//! testing::publish("keys", "{}");
//! assert_eq!(shared::get("keys").as_deref(), Some(&b"{}"[..]));
//! ```

/// Returns the value of a key.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::shared::get(key);
    #[cfg(not(target_family = "wasm"))]
    crate::testing::published(|values| values.get(key).cloned())
}

/// Returns all keys, sorted.
#[must_use]
pub fn keys() -> Vec<String> {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::shared::keys();
    #[cfg(not(target_family = "wasm"))]
    crate::testing::published(|values| values.keys().cloned().collect())
}

/// Returns the number of publications so far; equal numbers stand for equal values. Of use to an instance that keeps what
/// it has parsed.
#[must_use]
pub fn version() -> u64 {
    #[cfg(target_family = "wasm")]
    return crate::bindings::host::shared::version();
    #[cfg(not(target_family = "wasm"))]
    crate::testing::published(|values| values.len() as u64)
}
