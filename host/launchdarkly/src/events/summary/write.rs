//! Events of schema 4, the format of SDKs that summarise (L197 to L210).

use bytes::Bytes;
use yardarm_launchdarkly_eval::model::write_text;

use super::read::{Custom, EventOrigin, Feature};

/// Writes one JSON object, property by property.
pub(super) struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

/// Writes an `index` event, which reports a context before the first event that only names it.
pub(super) fn index(source: &EventOrigin<'_>) -> Bytes {
    event("index", source.at_ms, |event| event.raw("context", source.context))
}

/// Writes an `identify` event.
pub(super) fn identify(source: &EventOrigin<'_>) -> Bytes {
    event("identify", source.at_ms, |event| event.raw("context", source.context))
}

/// Writes a single evaluation; `kind` is `feature` or `debug`.
pub(super) fn feature(kind: &str, feature: &Feature<'_>, variation: Option<i64>) -> Bytes {
    event(kind, feature.source.at_ms, |event| {
        event.text("key", &feature.key);
        feature.version.into_iter().for_each(|it| event.integer("version", it));
        event.raw("context", feature.source.context);
        variation.into_iter().for_each(|it| event.integer("variation", it));
        event.raw("value", feature.value);
        event.raw("default", feature.default);
        feature.reason.into_iter().for_each(|it| event.raw("reason", it));
        // Nothing is sampled here: the SDK did, and the service multiplies by this number.
        feature.sampling_ratio.into_iter().filter(|it| *it != 1).for_each(|it| event.integer("samplingRatio", it));
    })
}

/// Writes a `custom` event.
pub(super) fn custom(custom: &Custom<'_>) -> Bytes {
    event("custom", custom.source.at_ms, |event| {
        event.text("key", &custom.key);
        custom.data.into_iter().for_each(|it| event.raw("data", it));
        event.object("contextKeys", |keys| custom.source.identity.parts().for_each(|(kind, key)| keys.text(kind, key)));
        custom.metric_value.into_iter().for_each(|it| event.raw("metricValue", it));
    })
}

fn event(kind: &str, at_ms: u64, fill: impl FnOnce(&mut ObjectWriter<'_>)) -> Bytes {
    let mut out = Vec::with_capacity(256);
    ObjectWriter::write(&mut out, |event| {
        event.text("kind", kind);
        event.integer("creationDate", at_ms);
        fill(event);
    });
    out.into()
}

impl ObjectWriter<'_> {
    /// Writes an object to the end of `out`.
    pub(super) fn write(out: &mut Vec<u8>, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        out.push(b'{');
        fill(&mut ObjectWriter { out, is_empty: true });
        out.push(b'}');
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        write_text(text, self.name(name));
    }

    pub(super) fn integer(&mut self, name: &str, integer: impl itoa::Integer) {
        self.name(name).extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
    }

    /// A property whose value is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name).extend_from_slice(json.as_bytes());
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut ObjectWriter<'_>)) {
        ObjectWriter::write(self.name(name), fill);
    }

    /// An array with one value for each of `items`, which `write` appends to its argument.
    pub(super) fn array<I>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = I>,
        mut write: impl FnMut(&mut Vec<u8>, I),
    ) {
        let out = self.name(name);
        out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write(out, item);
        }
        out.push(b']');
    }

    /// Writes the name of a property and returns the buffer for its value.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        write_text(name, self.out);
        self.out.push(b':');
        self.out
    }
}
