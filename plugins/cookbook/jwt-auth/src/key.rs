//! Keys as identity providers publish them (RFC 7517), for RS256 and ES256.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Verifier;
use rsa::{BigUint, RsaPublicKey, pkcs1v15};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A key set. Keys of other kinds may be among its keys.
#[derive(Debug, Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Box<RawValue>>,
}

/// A key as it is published; numbers are base64url without padding.
#[derive(Debug, Deserialize)]
pub(crate) struct Jwk {
    kid: Option<String>,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key that checks signatures. It fixes the algorithm, whatever a token claims.
#[derive(Debug)]
pub(crate) enum Key {
    Rs256(pkcs1v15::VerifyingKey<rsa::sha2::Sha256>),
    Es256(p256::ecdsa::VerifyingKey),
}

impl KeySet {
    /// Returns the JSON texts of the keys that can check signatures, by ID.
    pub(crate) fn usable(&self) -> BTreeMap<String, String> {
        let usable = |json: &RawValue| {
            let jwk: Jwk = serde_json::from_str(json.get()).ok()?;
            jwk.key()?;
            Some((jwk.kid.filter(|id| (1..=256).contains(&id.len()))?, json.get().to_owned()))
        };
        self.keys.iter().filter_map(|json| usable(json)).collect()
    }
}

impl Jwk {
    /// Returns the key; `None` if it is not one for RS256 or ES256.
    pub(crate) fn key(&self) -> Option<Key> {
        let is_for_signatures = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let has_alg = |name: &str| self.alg.as_deref().is_none_or(|alg| alg == name);
        match &*self.kty {
            "RSA" if is_for_signatures && has_alg("RS256") => {
                let [n, e] = [&self.n, &self.e].map(|number| Some(BigUint::from_bytes_be(&decode(number.as_ref()?)?)));
                Some(Key::Rs256(pkcs1v15::VerifyingKey::new(RsaPublicKey::new(n?, e?).ok()?)))
            }
            "EC" if is_for_signatures && has_alg("ES256") && self.crv.as_deref() == Some("P-256") => {
                let [x, y] = [&self.x, &self.y].map(|number| decode(number.as_ref()?)?.try_into().ok());
                let (x, y): ([u8; 32], [u8; 32]) = (x?, y?);
                let point = p256::EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
                Some(Key::Es256(p256::ecdsa::VerifyingKey::from_encoded_point(&point).ok()?))
            }
            _ => None,
        }
    }
}

impl Key {
    /// Returns the name of the algorithm.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
        }
    }

    /// Returns whether a signature is that of a message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rs256(key) => {
                pkcs1v15::Signature::try_from(signature).is_ok_and(|it| key.verify(message, &it).is_ok())
            }
            Self::Es256(key) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|it| key.verify(message, &it).is_ok())
            }
        }
    }
}

/// Decodes base64url without padding.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(text).ok()
}
