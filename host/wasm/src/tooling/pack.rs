//! `yardarm plugin pack`: puts a manifest into a component, for languages whose toolchain cannot add sections.

use wasmparser::{BinaryReader, BinaryReaderError};

use crate::staging::component_manifest::ComponentManifest;
use crate::staging::inspection::{Inspection, MANIFEST_SECTION};
use crate::staging::{check_bytes, check_name};
use crate::vocabulary::{LARGEST_LARGE_FILE, LoadError, clean, config_schema};

/// Properties of a manifest that this host knows. Those of later versions are ignored when a component is loaded; here
/// they are more likely misspelled.
const PROPERTIES: [&str; 8] = ["name", "version", "about", "sdk", "grants", "config", "state", "cases"];
/// Size of the magic number and the version at the beginning of a component.
const HEADER: usize = 8;
/// ID of custom sections.
const CUSTOM: u8 = 0;

/// Returns the component with this manifest, a JSON object, in place of the one that it has itself. Sections of modules
/// inside it stay, and have no effect.
///
/// # Errors
/// If the component or the manifest is not valid.
pub fn pack(component: &[u8], manifest: &[u8]) -> Result<Vec<u8>, LoadError> {
    check_bytes(component, LARGEST_LARGE_FILE)?;
    Inspection::of(component)?;
    check(manifest)?;
    let mut packed = without_manifest(component).map_err(|error| LoadError::of_compiler(&error.to_string()))?;
    let name = MANIFEST_SECTION.as_bytes();
    let mut section = leb128(name.len());
    section.extend_from_slice(name);
    section.extend_from_slice(manifest);
    packed.push(CUSTOM);
    packed.extend(leb128(section.len()));
    packed.extend(section);
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
    config_schema::check_schema(declared.config.as_ref())
}

/// Copies a component without its own section of the manifest.
fn without_manifest(component: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut reader = BinaryReader::new(component, 0);
    let mut copy = reader.read_bytes(HEADER)?.to_vec();
    while !reader.eof() {
        let start = reader.original_position();
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let content = reader.read_bytes(size as usize)?;
        let is_manifest = id == CUSTOM && BinaryReader::new(content, 0).read_string()? == MANIFEST_SECTION;
        if !is_manifest {
            copy.extend_from_slice(&component[start..reader.original_position()]);
        }
    }
    Ok(copy)
}

/// Encodes a length as an unsigned LEB128 number.
fn leb128(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
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

    #[test]
    fn lengths_are_encoded_as_leb128() {
        for (value, bytes) in [(0, &[0][..]), (127, &[0x7f]), (128, &[0x80, 1]), (300_000, &[0xe0, 0xa7, 0x12])] {
            assert_eq!(leb128(value), bytes);
        }
    }
}
