//! The plugin's own metrics. Granted to every plugin; the host adds the plugin's prefix and bounds the number of
//! series, so labels must come from small closed sets.
//!
//! ```
//! use yardarm_plugin::metrics;
//!
//! metrics::count("refused_total", 1, &[("reason", "token")]);
//! metrics::gauge("rules", 12.0, &[]);
//! ```
//!
//! An observation that the host rejects, because of its name or because the plugin has too many series, is counted by the
//! host and otherwise ignored: no call should fail because of a metric.

/// Adds to a counter.
pub fn count(name: &str, delta: u64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    let _ = crate::bindings::host::metrics::counter_add(name, delta, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, delta, labels);
}

/// Sets a gauge.
pub fn gauge(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    let _ = crate::bindings::host::metrics::gauge_set(name, value, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, value, labels);
}

/// Adds an observation to a histogram. Use base units, such as seconds.
pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
    #[cfg(target_family = "wasm")]
    let _ = crate::bindings::host::metrics::histogram_observe(name, value, &owned(labels));
    #[cfg(not(target_family = "wasm"))]
    let _ = (name, value, labels);
}

#[cfg(target_family = "wasm")]
fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
