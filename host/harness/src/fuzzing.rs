//! Doors for `host/fuzz`; compiled only there.

use std::sync::Arc;

use bytes::Bytes;

use crate::evaluation::Ruleset;
use crate::model::{Flag, Segment, Target};
use crate::{credential, downstream, metrics, tokens, upstream};

/// A flag and a segment that upstream sends, and a target that an SDK presents.
pub fn evaluate(flag: &str, segment: &str, target: &str) {
    let (Ok(flag), Ok(target)) = (serde_json::from_str(flag), serde_json::from_str::<Target>(target)) else { return };
    let Ok(flag) = Flag::read(flag) else { return };
    let segment = serde_json::from_str(segment).ok().and_then(|it| Segment::read(it).ok());
    let segments: Vec<_> = segment.into_iter().map(Arc::new).collect();
    let ruleset = Ruleset::build(&[Arc::new(flag)], &segments);
    ruleset.evaluate_all(&target, &mut |_, _| ());
}

/// What SDKs send: bodies, headers, tokens.
pub fn request(body: &[u8]) {
    downstream::fuzz(&Bytes::copy_from_slice(body));
    metrics::fuzz(&Bytes::copy_from_slice(body));
    if let Ok(text) = std::str::from_utf8(body) {
        credential::fuzz(text);
        tokens::fuzz(text);
    }
}

/// What upstream says: tokens, events.
pub fn message(text: &str) {
    upstream::fuzz(text);
}
