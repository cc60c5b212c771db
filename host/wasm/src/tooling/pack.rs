//! `yardarm plugin pack`: puts a manifest into a component, for languages whose toolchain cannot add sections.

use crate::staging::component_manifest::ComponentManifest;
use crate::staging::inspection::{Inspection, MANIFEST_SECTION};
use crate::staging::{check_bytes, check_name, sections};
use crate::vocabulary::{Hook, LARGEST_COMPONENT, LoadError, clean, config_schema};

/// Properties of a manifest that this host knows. Those of later versions are ignored when a component is loaded; here
/// they are more likely misspelled.
const PROPERTIES: [&str; 9] = ["name", "version", "about", "sdk", "grants", "limits", "config", "state", "cases"];

/// Returns the component with this manifest, a JSON object, in place of the one that it has itself. Sections of modules
/// inside it stay, and have no effect.
///
/// # Errors
/// If the component or the manifest is not valid.
pub fn pack(component: &[u8], manifest: &[u8]) -> Result<Vec<u8>, LoadError> {
    check_bytes(component, LARGEST_COMPONENT)?;
    Inspection::of(component)?;
    check(manifest)?;
    let damaged = |error: wasmparser::BinaryReaderError| LoadError::of_compiler(&error.to_string());
    let mut packed = sections::without(component, MANIFEST_SECTION).map_err(damaged)?;
    sections::append(&mut packed, MANIFEST_SECTION, manifest);
    Inspection::of(&packed)?;
    Ok(packed)
}

fn check(manifest: &[u8]) -> Result<(), LoadError> {
    let invalid = |text: String| LoadError::ComponentManifestInvalid { text };
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(manifest).map_err(|error| invalid(clean(&error.to_string())))?;
    if let Some(unknown) = object.keys().find(|key| !PROPERTIES.contains(&key.as_str())) {
        let likeness = |known: &str| strsim::jaro(known, unknown);
        let nearest = PROPERTIES.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let (unknown, nearest) = (clean(unknown), nearest.unwrap_or_default());
        return Err(invalid(format!("`{unknown}` is unknown, the most similar property is `{nearest}`")));
    }
    let declared = ComponentManifest::parse(manifest)?;
    if let Some(name) = &declared.name {
        check_name(name, None, "")?;
    }
    if let Some(unknown) = declared.limits.keys().find(|name| Hook::ALL.iter().all(|hook| hook.name() != **name)) {
        return Err(invalid(format!("`limits.{}` is not a hook", clean(unknown))));
    }
    config_schema::check_schema(declared.config.as_ref())
}

#[cfg(test)]
mod tests {
    use yardarm_testkit::guests::{ALLOW, Guest, GuestHook};

    use super::*;

    #[test]
    fn the_manifest_of_the_component_is_replaced_and_everything_else_stays() {
        let guest = Guest::new("zoo").hook(GuestHook::RequestAuth, ALLOW).component().unwrap();
        let long = format!(r#"{{"name":"second","about":"{}"}}"#, "x".repeat(20_000));
        let first = pack(&guest, br#"{"name":"first"}"#).unwrap();
        let second = pack(&first, long.as_bytes()).unwrap();
        assert!(first.starts_with(&guest) && second.starts_with(&guest));
        assert_eq!(pack(&second, br#"{"name":"first"}"#).unwrap(), first);
        let manifest = ComponentManifest::of(&Inspection::of(&second).unwrap()).unwrap();
        assert_eq!(manifest.name.as_deref(), Some("second"));
    }

    #[test]
    fn invalid_manifests_are_rejected_with_their_fault() {
        let guest = Guest::new("zoo").hook(GuestHook::RequestAuth, ALLOW).component().unwrap();
        for (manifest, fault) in [
            ("[]", "expected a map"),
            ("{\n\"name\": }", "line 2"),
            (r#"{"nmae":"zoo"}"#, "the most similar property is `name`"),
            (r#"{"name":"a b"}"#, "a name has 1 to 64"),
            (r#"{"grants":[{"grant":"sockets"}]}"#, "`sockets` is not a grant"),
            (r#"{"config":{"type":7}}"#, "not a usable JSON Schema"),
        ] {
            let text = pack(&guest, manifest.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(fault), "{manifest}: {text}");
        }
        assert_eq!(pack(b"nothing", b"{}").unwrap_err().code(), "L01");
    }
}
