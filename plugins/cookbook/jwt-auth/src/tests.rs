use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value, json};
use yardarm_plugin::from_config;
use yardarm_plugin::http::HttpResponse;
use yardarm_plugin::testing::{TestRequest, publish, respond, set_time};

use super::*;

const URL: &str = "https://idp.example.com/keys";
const KEYS: &str = include_str!("../testdata/keys.json");
/// Seconds.
const NOW: u64 = 1_767_312_000;

fn plugin() -> JwtAuth {
    let config = json!({"jwks_url": URL, "issuer": "https://idp.example.com", "audience": "flags", "leeway_s": 60});
    from_config(&config.to_string()).unwrap()
}

fn decision(token: &str) -> Decision {
    set_time(NOW * 1_000);
    plugin().authenticate(&TestRequest::default().with_header("x-access-token", token)).unwrap()
}

/// Fetches a key set and publishes it.
fn fetch(keys: &str) -> Result<()> {
    respond(URL, HttpResponse::new(200, keys));
    for (id, key) in plugin().refresh()?.unwrap() {
        publish(&id, key);
    }
    Ok(())
}

fn refusal(token: &str) -> Option<String> {
    match decision(token) {
        Decision::Deny(denial) => {
            assert_eq!(denial.class, DenialClass::Unauthorized);
            denial.reason
        }
        _ => None,
    }
}

fn encode(value: &Value) -> String {
    Base64UrlUnpadded::encode_string(value.to_string().as_bytes())
}

/// Publishes a key of the test's own and returns a token with other claims.
fn token(header: &Value, changes: &Value) -> String {
    let key = SigningKey::from_slice(&[7; 32]).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    let [x, y] = [point.x(), point.y()].map(|it| Base64UrlUnpadded::encode_string(it.unwrap()));
    publish("own", json!({"kty": "EC", "crv": "P-256", "kid": "own", "x": x, "y": y}).to_string());
    let mut claims = json!({"iss": "https://idp.example.com", "sub": "ada", "aud": "flags", "exp": NOW + 60});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let signed = format!("{}.{}", encode(header), encode(&claims));
    let signature: Signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature.to_bytes()))
}

#[test]
fn both_algorithms_are_accepted_with_the_published_keys() {
    fetch(KEYS).unwrap();
    for token in [include_str!("../testdata/rs256.jwt"), include_str!("../testdata/es256.jwt")] {
        assert_eq!(decision(token), Decision::allow("ada"));
        assert_eq!(decision(&format!("Bearer {token}")), Decision::allow("ada"));
        let (signed, signature) = token.trim().rsplit_once('.').unwrap();
        let forged = signed.replace('a', "b");
        assert!(refusal(&format!("{forged}.{signature}")).is_some());
        assert_eq!(refusal(&format!("{signed}.{}", &signature[4..])).as_deref(), Some("bad-signature"));
    }
}

#[test]
fn claims_are_checked_with_leeway() {
    let header = json!({"alg": "ES256", "kid": "own"});
    for (changes, expected) in [
        (json!({}), None),
        (json!({"exp": NOW - 59}), None),
        (json!({"exp": NOW - 60}), Some("expired")),
        (json!({"exp": 1e300}), None),
        (json!({"exp": "soon"}), Some("malformed")),
        (json!({"exp": null}), Some("malformed")),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some("not-yet-valid")),
        (json!({"aud": ["a", "flags"]}), None),
        (json!({"aud": ["a", "b"]}), Some("wrong-audience")),
        (json!({"aud": "flags-2"}), Some("wrong-audience")),
        (json!({"iss": "https://idp.example.com/"}), Some("wrong-issuer")),
        (json!({"sub": "x".repeat(257)}), Some("malformed")),
    ] {
        assert_eq!(refusal(&token(&header, &changes)).as_deref(), expected, "{changes}");
    }
}

#[test]
fn the_key_decides_on_the_algorithm() {
    for (header, expected) in [
        (json!({"alg": "none", "kid": "own"}), "wrong-algorithm"),
        (json!({"alg": "HS256", "kid": "own"}), "wrong-algorithm"),
        (json!({"alg": "RS256", "kid": "own"}), "wrong-algorithm"),
        (json!({"alg": "ES256", "kid": "other"}), "unknown-key"),
        (json!({"alg": "ES256"}), "unknown-key"),
        (json!({"alg": "ES256", "kid": "own", "crit": ["b64"]}), "malformed"),
    ] {
        assert_eq!(refusal(&token(&header, &json!({}))).as_deref(), Some(expected), "{header}");
    }
    for text in ["", ".", "..", "a.b.c", "e30.e30.e30"] {
        assert_eq!(refusal(text).as_deref(), Some("malformed"), "{text}");
    }
}

#[test]
fn callers_before_the_first_key_set_retry() {
    let Decision::Deny(denial) = decision(include_str!("../testdata/es256.jwt")) else { panic!() };
    assert_eq!((denial.class, denial.retry_after), (DenialClass::Unavailable, Some(RETRY_AFTER)));
}

#[test]
fn a_key_set_without_keys_replaces_nothing() {
    for keys in [r#"{"keys": []}"#, r#"{"keys": [{"kty": "OKP", "kid": "a"}, 1]}"#, "<html>", "{}"] {
        assert!(matches!(fetch(keys), Err(PluginError::Temporary(_))), "{keys}");
    }
    fetch(KEYS).unwrap();
    assert_eq!(shared::keys(), ["ec-1", "rsa-1"]);
}
