//! Credentials of callers: SDK key, mobile key, environment ID.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use yardarm_core::Secret;

/// Server-side secret of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SdkKey(Secret);

/// Secret of mobile SDKs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MobileKey(Secret);

/// Identifier that browsers put into their URLs. Public.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnvironmentId(Arc<str>);

macro_rules! secret_key {
    ($name:ident) => {
        impl $name {
            /// Wraps a secret.
            #[must_use]
            pub fn new(secret: Secret) -> Self {
                Self(secret)
            }

            /// The text itself, for requests only.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose()
            }

            /// The secret inside.
            #[must_use]
            pub fn secret(&self) -> &Secret {
                &self.0
            }
        }
    };
}

secret_key!(SdkKey);
secret_key!(MobileKey);

impl EnvironmentId {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The credential in the `Authorization` header, read as ld-relay does (`internal/sdks/sdk_kinds.go`): the first
/// header only, an `api_key ` in front is removed, and a text with a space in it is not a credential.
///
/// Bytes that are not UTF-8 make an unknown credential, not a missing one.
pub(crate) fn from_headers(headers: &HeaderMap) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(AUTHORIZATION)?.as_bytes());
    let text = text.trim();
    let text = text.strip_prefix("api_key ").map_or(text, str::trim);
    (!text.is_empty() && !text.contains(' ')).then(|| text.to_owned())
}

impl SdkKey {
    /// The last four characters, by which operators recognize a key in the log; nothing of a short key.
    pub(crate) fn suffix(&self) -> String {
        let characters: Vec<char> = self.expose().chars().collect();
        let shown = if characters.len() < 12 { 0 } else { 4 };
        characters[characters.len() - shown..].iter().collect()
    }
}

/// A key as `/status` shows it, exactly as ld-relay does (`internal/sdks/obscure_key.go`): a prefix of three letters
/// and a dash stays, hexadecimal digits before the last five characters become `*`.
///
/// Keys with other letters stay partly readable, so only `/status` uses this; logs show the last four characters at most.
pub(crate) fn mask(key: &str) -> String {
    let bytes = key.as_bytes();
    let has_prefix = bytes.len() >= 4 && bytes[..3].iter().all(u8::is_ascii_lowercase) && bytes[3] == b'-';
    if has_prefix {
        return format!("{}{}", &key[..4], mask(&key[4..]));
    }
    let characters: Vec<char> = key.chars().collect();
    let masked = characters.len().saturating_sub(5);
    if characters.len() <= 4 {
        return key.to_owned();
    }
    let hide = |(index, it): (usize, &char)| if index < masked && it.is_ascii_hexdigit() { '*' } else { *it };
    characters.iter().enumerate().map(hide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_masked_like_in_the_reference() {
        // L218
        for (key, masked) in [
            ("sdk-00000000-1111-2222-3333-444444444401", "sdk-********-****-****-****-*******44401"),
            ("sdk-def01234-56-789abc", "sdk-********-**-*89abc"),
            ("def01234-56-789abc", "********-**-*89abc"),
            ("sdk-aaaa-1", "sdk-*aaa-1"),
            ("89abc", "89abc"),
            ("sdk-9abc", "sdk-9abc"),
            ("sdk-secure", "sdk-secure"),
            ("sdk-mob-aaaa-1", "sdk-mob-*aaa-1"),
            ("", ""),
        ] {
            assert_eq!(mask(key), masked);
        }
    }

    #[test]
    fn the_header_is_read_like_in_the_reference() {
        for (header, credential) in [
            ("key", Some("key")),
            ("api_key key", Some("key")),
            ("api_key   key", Some("key")),
            ("api_key", Some("api_key")),
            ("", None),
            ("Bearer x", None),
            ("API_KEY key", None),
            ("key x", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            assert_eq!(from_headers(&headers).as_deref(), credential, "{header}");
        }
        assert_eq!(from_headers(&HeaderMap::new()), None);
    }

    proptest::proptest! {
        #[test]
        fn masking_never_panics(key in "\\PC*") {
            mask(&key);
        }
    }
}
