//! Labels of environments in logs, metrics, status and plugin bindings.

use yardarm_core::EnvironmentLabel;

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "launchdarkly";

/// `NAME` or `NAME/FILTER`.
pub(crate) fn label(name: &str, filter: &str) -> EnvironmentLabel {
    if filter.is_empty() {
        EnvironmentLabel::new(VENDOR, name)
    } else {
        EnvironmentLabel::new(VENDOR, format!("{name}/{filter}"))
    }
}
