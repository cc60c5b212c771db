//! The shared files about contexts, references, buckets and hashes.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::case::equal;
use super::{read, shared_folder};
use crate::evaluation::bucket::tests::bucket;
use crate::model::{Context, Reference};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContextCase {
    id: String,
    input: Box<RawValue>,
    valid: bool,
    fully_qualified_key: Option<String>,
    canonical: Option<Value>,
    go_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferenceCase {
    id: String,
    #[serde(rename = "ref")]
    text: String,
    literal: bool,
    valid: bool,
    components: Option<Vec<String>>,
    go_error: Option<String>,
}

#[derive(Deserialize)]
struct BucketCase {
    id: String,
    key: String,
    salt: String,
    seed: Option<i64>,
    value: String,
    f32bits: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HashCase {
    id: String,
    sdk_key: String,
    context: Box<RawValue>,
    hash: String,
}

#[test]
fn shared_contexts() {
    let Some(folder) = shared_folder() else { return };
    let cases: Vec<ContextCase> = read(&folder, "contexts");
    for case in &cases {
        let id = &case.id;
        match Context::parse(case.input.get().as_bytes()) {
            Ok(context) => {
                assert!(case.valid, "{id}");
                assert_eq!(Some(&*context.canonical_key()), case.fully_qualified_key.as_deref(), "{id}");
                let mut out = Vec::new();
                context.write_json(&mut out);
                let written: Value = serde_json::from_slice(&out).expect(id);
                assert!(equal(&written, case.canonical.as_ref().expect(id)), "{id}: {written}");
            }
            Err(error) => {
                assert!(!case.valid, "{id}: {error}");
                assert_eq!(Some(error.to_string()), case.go_error, "{id}");
            }
        }
    }
    assert!(cases.len() >= 40, "only {} contexts", cases.len());
}

#[test]
fn shared_attribute_references() {
    let Some(folder) = shared_folder() else { return };
    let cases: Vec<ReferenceCase> = read(&folder, "attribute-references");
    for case in &cases {
        let read = if case.literal { Reference::literal(&case.text) } else { Reference::parse(&case.text) };
        assert_eq!(read.is_ok(), case.valid, "{}", case.id);
        match read {
            Ok(reference) => {
                let parts: Vec<_> = reference.parts().iter().map(ToString::to_string).collect();
                assert_eq!(Some(parts), case.components, "{}", case.id);
            }
            Err(error) => assert_eq!(Some(error.to_string()), case.go_error, "{}", case.id),
        }
    }
    assert!(cases.len() >= 32, "only {} references", cases.len());
}

#[test]
fn shared_buckets() {
    let Some(folder) = shared_folder() else { return };
    let cases: Vec<BucketCase> = read(&folder, "buckets");
    for case in &cases {
        let bits = bucket(&case.key, &case.salt, case.seed, &case.value).to_bits();
        assert_eq!(format!("{bits:08x}"), case.f32bits, "{}", case.id);
    }
    assert!(cases.len() >= 93, "only {} buckets", cases.len());
}

#[test]
fn shared_secure_mode_hashes() {
    let Some(folder) = shared_folder() else { return };
    let cases: Vec<HashCase> = read(&folder, "secure-mode-hash");
    for case in &cases {
        let context = Context::parse(case.context.get().as_bytes()).expect(&case.id);
        assert_eq!(context.secure_mode_hash(&case.sdk_key), case.hash, "{}", case.id);
        assert!(context.verify_hash(&case.sdk_key, &case.hash), "{}", case.id);
    }
    assert!(cases.len() >= 6, "only {} hashes", cases.len());
}
