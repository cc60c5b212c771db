//! Which hooks a component exports.

use super::inspection::Inspection;
use crate::runtime::interface::v0_1;
use crate::vocabulary::{Hook, LoadError};

/// Returns the hooks among a component's exports, sorted.
///
/// # Errors
/// If there is none, if they are of another version of the interface or `async`, or if the plugin has a configuration
/// and no `lifecycle` to receive it.
pub(crate) fn check(inspection: &Inspection, has_config: bool) -> Result<Vec<Hook>, LoadError> {
    let (mut hooks, mut has_lifecycle) = (Vec::new(), false);
    for name in &inspection.exports {
        let Some(interface) = name.strip_prefix("yardarm:plugin/") else { continue };
        let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
        let hook = v0_1::hook_of(interface);
        if (hook.is_some() || interface == "lifecycle") && !v0_1::speaks(version) {
            return Err(LoadError::UnsupportedInterface { built_for: name.to_owned() });
        }
        has_lifecycle |= interface == "lifecycle";
        hooks.extend(hook);
    }
    hooks.sort();
    if hooks.is_empty() {
        return Err(LoadError::NoHook);
    }
    let of_interface = |function: &&String| function.contains("`yardarm:plugin/");
    let functions: Vec<_> = inspection.async_exports.iter().filter(of_interface).map(String::as_str).collect();
    if !functions.is_empty() {
        return Err(LoadError::AsyncExport { functions: functions.join(", ") });
    }
    if has_config && !has_lifecycle { Err(LoadError::NoConfig) } else { Ok(hooks) }
}
