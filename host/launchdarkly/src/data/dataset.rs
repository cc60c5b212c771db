//! The data set of one environment: items, their compiled form, and what its streams are sent.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha1::{Digest, Sha1};
use yardarm_core::sse::Frame;
use yardarm_core::{Applied, Dataset};
use yardarm_launchdarkly_eval::evaluation::Ruleset;

use super::items::{Change, Channel, Item, Items};
use super::render;
use super::state::DataState;

/// All flags and segments of one environment at one moment.
pub(crate) struct FlagData {
    items: Items,
    /// Compiled on the first evaluation; an environment that only serves server-side SDKs is never compiled.
    ruleset: OnceLock<Arc<Ruleset>>,
    /// Computed on the first poll.
    flags_tag: OnceLock<Box<str>>,
    /// Computed when it is needed for the first time, and from then on with each change.
    state: OnceLock<DataState>,
    /// Number of the state, as far as it is known without computing it.
    revision: u64,
    /// Rendered on the first poll of everything.
    everything: OnceLock<Bytes>,
}

impl FlagData {
    fn new(items: Items) -> Self {
        Self {
            items,
            ruleset: OnceLock::new(),
            flags_tag: OnceLock::new(),
            state: OnceLock::new(),
            revision: 1,
            everything: OnceLock::new(),
        }
    }

    pub(crate) fn items(&self) -> &Items {
        &self.items
    }

    /// The compiled form.
    pub(crate) fn ruleset(&self) -> &Arc<Ruleset> {
        self.ruleset.get_or_init(|| Arc::new(build(None, &self.items)))
    }

    /// A tag for the whole set of flags, as ld-relay computes it (`relay/relay_endpoints.go`): the first 15
    /// hexadecimal digits of SHA-1 over `KEY:VERSION` of each flag in order of key, deleted ones included.
    pub(crate) fn flags_tag(&self) -> &str {
        self.flags_tag.get_or_init(|| {
            let mut hash = Sha1::new();
            for flag in self.items.flags.iter() {
                hash.update(flag.key().as_bytes());
                hash.update(b":");
                hash.update(flag.version().to_string());
            }
            let mut tag = hex::encode(hash.finalize());
            tag.truncate(15);
            tag.into()
        })
    }

    /// The state that the data is in.
    pub(crate) fn state(&self) -> DataState {
        *self.state.get_or_init(|| DataState::of(&self.items, self.revision))
    }

    /// All flags and segments as one JSON object, rendered on the first call.
    pub(crate) fn everything(&self) -> Bytes {
        self.everything.get_or_init(|| render::everything(&self.items)).clone()
    }
}

impl Dataset for FlagData {
    type Change = Change;

    const CHANNELS: usize = Channel::COUNT;

    fn apply(current: Option<&Self>, change: &Change) -> Applied<Self> {
        match (change, current) {
            (Change::Put(items), _) => Applied::News(Self::compiled_like(items.clone(), current).following(current)),
            (Change::Patch(_) | Change::Group(_) | Change::SegmentsChanged, None) => Applied::Ignored,
            (Change::SegmentsChanged, Some(_)) => Applied::AnnounceOnly,
            (Change::Patch(item), Some(current)) => current.with_newer(std::slice::from_ref(item)),
            (Change::Group(items), Some(current)) => current.with_newer(items),
        }
    }

    fn render_change(change: &Change, channel: usize) -> Option<Frame> {
        render::change(change, Channel::of(channel)?)
    }

    /// After a `put`, streams read the full data, which is rendered if there are any.
    fn is_restart(change: &Change) -> bool {
        matches!(change, Change::Put(_))
    }

    fn render_full(&self, channel: usize) -> Option<Frame> {
        Some(render::full(&self.items, Channel::of(channel)?))
    }
}

impl FlagData {
    /// Compiles the data at once if the previous data was compiled, sharing unchanged items.
    fn compiled_like(items: Items, previous: Option<&Self>) -> Self {
        let data = Self::new(items);
        match previous.and_then(|it| it.ruleset.get()) {
            Some(previous) => data.compiled_as(|items| build(Some(previous), items)),
            None => data,
        }
    }

    /// The data in which those of `items` that are newer replace the ones with their keys.
    fn with_newer(&self, items: &[Item]) -> Applied<Self> {
        let mut newest: Option<Self> = None;
        for item in items {
            let before = newest.as_ref().unwrap_or(self);
            let mut all = before.items.clone();
            if all.upsert(item) {
                newest = Some(before.with_item(all, item));
            }
        }
        match newest {
            Some(data) => Applied::News(data.following(Some(self))),
            // SDKs check versions themselves; ld-relay publishes old changes too, because several relays may share one
            // database (`internal/store/relay_feature_store.go`).
            None => Applied::AnnounceOnly,
        }
    }

    /// The data in which `item` replaces the one with its key. Compiles that item, if the data was compiled.
    fn with_item(&self, items: Items, item: &Item) -> Self {
        let data = Self::new(items);
        let Some(ruleset) = self.ruleset.get() else { return data };
        let next = match item {
            Item::Flag(flag) => ruleset.with_flag(flag),
            Item::Segment(segment) => ruleset.with_segment(segment),
        };
        data.compiled_as(|items| next.unwrap_or_else(|| build(None, items)))
    }

    /// The data with its state, if that of the data before it is known.
    fn following(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        match before.state.get() {
            Some(state) => {
                let state = state.next(&before.items, &self.items);
                Self { revision: state.revision(), state: OnceLock::from(state), ..self }
            }
            None => Self { revision: before.revision + 1, ..self },
        }
    }

    fn compiled_as(self, compile: impl FnOnce(&Items) -> Ruleset) -> Self {
        let ruleset = OnceLock::from(Arc::new(compile(&self.items)));
        Self { ruleset, ..self }
    }
}

fn build(previous: Option<&Ruleset>, items: &Items) -> Ruleset {
    let flags: Vec<_> = items.flags.iter().cloned().collect();
    let segments: Vec<_> = items.segments.iter().cloned().collect();
    Ruleset::build(previous, &flags, &segments)
}

#[cfg(test)]
mod tests;
