//! Entry points for `host/fuzz`; compiled only for fuzzing.

use bytes::Bytes;

use crate::{downstream, identity, metrics, sources, upstream};

/// Reads what SDKs send: bodies, headers, tokens.
pub fn request(body: &[u8]) {
    downstream::fuzz(&Bytes::copy_from_slice(body));
    metrics::fuzz(&Bytes::copy_from_slice(body));
    if let Ok(text) = std::str::from_utf8(body) {
        identity::fuzz(text);
    }
}

/// Reads what upstream sends: tokens, events, pages.
pub fn message(text: &str) {
    upstream::fuzz(text);
    sources::fuzz(text);
}
