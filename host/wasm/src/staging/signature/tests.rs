use proptest::prelude::*;
use ring::rand::SystemRandom;
use yardarm_testkit::guests::{ABSTAIN, ALLOW, Guest, GuestHook};

use super::*;

fn pair() -> Ed25519KeyPair {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap()
}

fn guest() -> Vec<u8> {
    Guest::new("gate").version("1.2.3").hook(GuestHook::RequestAuth, ALLOW).component().unwrap()
}

fn trusting(pair: &Ed25519KeyPair, names: &str) -> SignaturePolicy {
    let key = format!("{} {names}", PublicKey::of(pair)).parse().unwrap();
    SignaturePolicy { mode: SignatureMode::Require, keys: vec![key] }
}

#[test]
fn a_signature_is_of_one_component_one_name_and_one_version() {
    let pair = pair();
    let signed = sign(&guest(), &pair, "gate", "1.2.3").unwrap();
    let policy = trusting(&pair, "");
    assert_eq!(policy.check(&signed, "gate", "1.2.3"), Ok(PublicKey::of(&pair)));
    for (name, version) in [("other", "1.2.3"), ("gate", "1.2.4")] {
        let error = policy.check(&signed, name, version).unwrap_err();
        assert_eq!((error.code(), error.class()), ("L11", "signature-invalid"), "{error}");
    }
    let error = policy.check(&guest(), "gate", "1.2.3").unwrap_err();
    assert_eq!((error.code(), error.class()), ("L11", "signature-missing"), "{error}");
    // Put behind another component, it is still that of the first.
    let mut moved = Guest::new("gate").version("1.2.3").hook(GuestHook::RequestAuth, ABSTAIN).component().unwrap();
    let section = sections::custom_sections(&signed, SECTION).unwrap().remove(0);
    moved.extend_from_slice(&signed[section.place]);
    assert!(policy.check(&moved, "gate", "1.2.3").unwrap_err().to_string().contains("changed after it was signed"));
}

#[test]
fn a_key_is_trusted_for_its_names_only() {
    let (mine, theirs) = (pair(), pair());
    let signed = sign(&guest(), &mine, "gate", "1.2.3").unwrap();
    assert!(trusting(&mine, "request-* gat?").check(&signed, "gate", "1.2.3").is_ok());
    for (policy, fault) in [
        (trusting(&mine, "acme-*"), "not trusted for the name `gate`"),
        (trusting(&theirs, ""), "not in `plugins.trusted_keys`"),
        (SignaturePolicy::default(), "not in `plugins.trusted_keys`"),
    ] {
        let error = policy.check(&signed, "gate", "1.2.3").unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}

#[test]
fn a_component_is_signed_again_in_place_of_its_signature() {
    let (first, second) = (pair(), pair());
    let once = sign(&guest(), &first, "gate", "1.2.3").unwrap();
    let again = sign(&once, &second, "gate", "1.2.3").unwrap();
    assert_eq!(verify(&again).unwrap().unwrap().key, PublicKey::of(&second));
    assert_eq!(sign(&again, &first, "gate", "1.2.3").unwrap(), once);
    // What follows a signature is not signed.
    let mut longer = once;
    sections::append(&mut longer, "more", b"");
    assert!(verify(&longer).unwrap_err().to_string().contains("not the last section"));
}

#[test]
fn keys_have_one_text() {
    let key = PublicKey::of(&pair());
    assert_eq!(key.to_string().parse(), Ok(key));
    for text in ["", "ed25519:", "ed25519:AAAA", "rsa:AAAA", &key.to_string()[8..]] {
        assert!(text.parse::<PublicKey>().unwrap_err().contains("32 bytes"), "{text}");
    }
}

proptest! {
    /// Any change of any byte of a signed component leaves no valid signature of it.
    #[test]
    fn no_change_keeps_the_signature(at in any::<prop::sample::Index>(), change in 1_u8..) {
        let pair = pair();
        let mut signed = sign(&guest(), &pair, "gate", "1.2.3").unwrap();
        let index = at.index(signed.len());
        signed[index] ^= change;
        prop_assert!(trusting(&pair, "").check(&signed, "gate", "1.2.3").is_err());
    }
}
