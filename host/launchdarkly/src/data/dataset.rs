//! The data set of one environment: items, their compiled form, and what its streams are sent.

use std::sync::{Arc, OnceLock};

use sha1::{Digest, Sha1};
use yardarm_core::sse::Frame;
use yardarm_core::{Applied, Dataset};
use yardarm_launchdarkly_eval::evaluation::Ruleset;

use super::items::{Change, Channel, Items};
use super::render;

/// All flags and segments of one environment at one moment.
pub(crate) struct FlagData {
    items: Items,
    /// Compiled on the first evaluation; an environment that only serves server-side SDKs is never compiled.
    ruleset: OnceLock<Arc<Ruleset>>,
}

impl FlagData {
    fn new(items: Items) -> Self {
        Self { items, ruleset: OnceLock::new() }
    }

    pub(crate) fn items(&self) -> &Items {
        &self.items
    }

    /// The compiled form.
    pub(crate) fn ruleset(&self) -> &Arc<Ruleset> {
        self.ruleset.get_or_init(|| Arc::new(Ruleset::build(None, &self.items.flags, &self.items.segments)))
    }

    /// A tag for the whole set of flags, as ld-relay computes it (`relay/relay_endpoints.go`): the first 15
    /// hexadecimal digits of SHA-1 over `KEY:VERSION` of each flag in order of key, deleted ones included.
    pub(crate) fn flags_tag(&self) -> String {
        let mut hash = Sha1::new();
        for flag in &self.items.flags {
            hash.update(flag.key().as_bytes());
            hash.update(b":");
            hash.update(flag.version().to_string());
        }
        let mut tag = hex::encode(hash.finalize());
        tag.truncate(15);
        tag
    }
}

impl Dataset for FlagData {
    type Change = Change;

    const CHANNELS: usize = Channel::COUNT;

    fn apply(current: Option<&Self>, change: &Change) -> Applied<Self> {
        match (change, current) {
            (Change::Put(items), _) => Applied::News(Self::new(items.clone()).compiled_like(current)),
            (Change::Patch(_) | Change::SegmentsChanged, None) => Applied::Ignored,
            (Change::SegmentsChanged, Some(_)) => Applied::AnnounceOnly,
            (Change::Patch(item), Some(current)) => {
                let mut items = current.items.clone();
                if items.upsert(item) {
                    Applied::News(Self::new(items).compiled_like(Some(current)))
                } else {
                    // SDKs check versions themselves; ld-relay publishes old changes too, because several relays may
                    // share one database (`internal/store/relay_feature_store.go`).
                    Applied::AnnounceOnly
                }
            }
        }
    }

    fn render_change(change: &Change, channel: usize) -> Option<Frame> {
        render::change(change, Channel::of(channel)?)
    }

    fn render_full(&self, channel: usize) -> Option<Frame> {
        Some(render::full(&self.items, Channel::of(channel)?))
    }
}

impl FlagData {
    /// Compiles the data at once if the previous data was compiled, sharing unchanged items.
    fn compiled_like(self, previous: Option<&Self>) -> Self {
        if let Some(previous) = previous.and_then(|it| it.ruleset.get()) {
            let ruleset = Ruleset::build(Some(previous), &self.items.flags, &self.items.segments);
            return Self { items: self.items, ruleset: OnceLock::from(Arc::new(ruleset)) };
        }
        self
    }
}

#[cfg(test)]
mod tests;
