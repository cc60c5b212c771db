//! Doors for `host/fuzz`; compiled only there.

use bytes::Bytes;

use crate::{downstream, identity, metrics, sources, upstream};

/// What SDKs send: bodies, headers, tokens.
pub fn request(body: &[u8]) {
    downstream::fuzz(&Bytes::copy_from_slice(body));
    metrics::fuzz(&Bytes::copy_from_slice(body));
    if let Ok(text) = std::str::from_utf8(body) {
        identity::fuzz(text);
    }
}

/// What upstream says: tokens, events.
pub fn message(text: &str) {
    upstream::fuzz(text);
    sources::fuzz(text);
}
