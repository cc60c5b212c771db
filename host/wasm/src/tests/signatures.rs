//! Signed components, and others, in the folder of a gateway that trusts keys.

use yardarm_testkit::guests;

use super::*;
use crate::{SignatureMode, SignaturePolicy, SignatureStatus, SigningKey, TrustedKey, sign_file};

fn guest(version: &str) -> Vec<u8> {
    Guest::new("zoo").version(version).hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap()
}

fn signed(component: &[u8], key: &SigningKey) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zoo.wasm");
    std::fs::write(&path, component).unwrap();
    sign_file(&path, key).unwrap()
}

async fn with(component: &[u8], mode: SignatureMode, key: &SigningKey) -> Fixture {
    let keys = vec![TrustedKey { key: key.public(), names: Vec::new() }];
    let policy = Arc::new(SignaturePolicy { mode, keys });
    Fixture::set_up(&[("zoo.wasm", component)], move |settings| settings.signatures = policy).await
}

#[tokio::test]
async fn a_required_signature_is_checked_for_each_version() {
    let (key, other) = (SigningKey::generate().unwrap().0, SigningKey::generate().unwrap().0);
    let fixture = with(&signed(&guest("1.0.0"), &key), SignatureMode::Require, &key).await;
    let expected = SignatureStatus::Valid { key: key.public().to_string() };
    assert_eq!(fixture.plugin("zoo").active.unwrap().signature, expected);
    for (component, class) in [
        (guest("2.0.0"), "signature-missing"),
        (signed(&guest("2.0.0"), &other), "signature-invalid"),
        ([signed(&guest("2.0.0"), &key), b"\0\x05\x04more".to_vec()].concat(), "signature-invalid"),
    ] {
        fixture.put("zoo.wasm", &component);
        fixture
            .shows(class, |status| status.plugins[0].refused.as_ref().is_some_and(|refused| refused.class == class))
            .await;
        let row = fixture.plugin("zoo");
        assert_eq!((row.refused.unwrap().code, &*row.active.unwrap().version), ("L11", "1.0.0"), "it keeps running");
    }
    fixture.swap(|it| it.put("zoo.wasm", &signed(&guest("2.0.0"), &key))).await;
    assert_eq!(fixture.plugin("zoo").active.unwrap().version, "2.0.0");
}

#[tokio::test]
async fn without_the_requirement_a_signature_is_reported() {
    let (key, other) = (SigningKey::generate().unwrap().0, SigningKey::generate().unwrap().0);
    let fixture = with(&signed(&guest("1.0.0"), &other), SignatureMode::Warn, &key).await;
    let status = fixture.plugin("zoo").active.unwrap().signature;
    assert!(matches!(&status, SignatureStatus::Invalid { text } if text.contains("trusted_keys")), "{status:?}");
    let fixture = with(&guest("1.0.0"), SignatureMode::Off, &key).await;
    assert_eq!(fixture.plugin("zoo").active.unwrap().signature, SignatureStatus::Unchecked);
}
