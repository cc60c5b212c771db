//! A JSON Web Token (RFC 7519) and what is required of it.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::key::{Key, decode};

/// Longest subject, which becomes the name of the caller.
const LONGEST_SUBJECT: usize = 256;

/// A token whose signature is not checked yet.
pub(crate) struct Token<'a> {
    header: Header,
    /// Header and claims as they are signed.
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood. None are.
    crit: Option<serde_json::Value>,
}

/// The claims that are checked.
#[derive(Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What is required of the claims.
pub(crate) struct Requirements {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Seconds by which clocks may differ.
    pub(crate) leeway_s: u32,
}

/// Why a token is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NoToken,
    Malformed,
    UnknownKey,
    WrongAlgorithm,
    BadSignature,
    WrongIssuer,
    WrongAudience,
    Expired,
    NotYetValid,
}

impl<'a> Token<'a> {
    /// Parses a token in the compact form: header, claims and signature, separated by dots.
    pub(crate) fn parse(text: &'a str) -> Result<Self, Fault> {
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let header: Header = json(header)?;
        if header.crit.is_some() {
            return Err(Fault::Malformed);
        }
        Ok(Self { header, signed, claims, signature: decode(signature).ok_or(Fault::Malformed)? })
    }

    /// Returns the ID of the key that the token names.
    pub(crate) fn key_id(&self) -> Result<&str, Fault> {
        self.header.kid.as_deref().ok_or(Fault::UnknownKey)
    }

    /// Checks the signature.
    pub(crate) fn verify(&self, key: &Key) -> Result<(), Fault> {
        if self.header.alg != key.algorithm() {
            return Err(Fault::WrongAlgorithm);
        }
        let is_valid = key.verifies(self.signed.as_bytes(), &self.signature);
        is_valid.then_some(()).ok_or(Fault::BadSignature)
    }

    /// Reads the claims.
    pub(crate) fn claims(&self) -> Result<Claims, Fault> {
        json(self.claims)
    }
}

impl Requirements {
    /// Checks claims at a time in Unix seconds; returns the subject.
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52")]
    pub(crate) fn check(&self, claims: Claims, now: u64) -> Result<String, Fault> {
        let (now, leeway) = (now as f64, f64::from(self.leeway_s));
        if claims.iss != self.issuer {
            Err(Fault::WrongIssuer)
        } else if !claims.aud.contains(&self.audience) {
            Err(Fault::WrongAudience)
        } else if now - leeway >= claims.exp {
            Err(Fault::Expired)
        } else if claims.nbf.is_some_and(|nbf| now + leeway < nbf) {
            Err(Fault::NotYetValid)
        } else if claims.sub.len() > LONGEST_SUBJECT {
            Err(Fault::Malformed)
        } else {
            Ok(claims.sub)
        }
    }
}

impl Audience {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(known) => known == name,
            Self::Many(known) => known.iter().any(|known| known == name),
        }
    }
}

impl Fault {
    /// Returns the name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::WrongAlgorithm => "wrong-algorithm",
            Self::BadSignature => "bad-signature",
            Self::WrongIssuer => "wrong-issuer",
            Self::WrongAudience => "wrong-audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
        }
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Fault> {
    let json = decode(part).ok_or(Fault::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| Fault::Malformed)
}
