//! Which hooks a component exports.

use crate::runtime::interface::v0_1;
use crate::vocabulary::{Hook, LoadError};

/// Returns the hooks among the names of a component's exports, sorted.
///
/// # Errors
/// If there is none, if they are of another version of the interface, or if `lifecycle` is missing.
pub(super) fn check(exports: &[String]) -> Result<Vec<Hook>, LoadError> {
    let (mut hooks, mut lifecycle) = (Vec::new(), false);
    for name in exports {
        let Some(interface) = name.strip_prefix("yardarm:plugin/") else { continue };
        let (interface, version) = interface.split_once('@').unwrap_or((interface, ""));
        let hook = v0_1::hook_of(interface);
        if (hook.is_some() || interface == "lifecycle") && !v0_1::speaks(version) {
            return Err(LoadError::UnsupportedInterface { built_for: name.to_owned() });
        }
        lifecycle |= interface == "lifecycle";
        hooks.extend(hook);
    }
    hooks.sort();
    if hooks.is_empty() {
        return Err(LoadError::NoHook);
    }
    if lifecycle { Ok(hooks) } else { Err(LoadError::NoLifecycle) }
}
