//! Entry points for `host/fuzz`; compiled only there.
#![expect(missing_docs, reason = "not part of the interface")]

use yardarm_launchdarkly_eval::model::Context;

use crate::{data, downstream, events, sources, store};

pub fn message(event: &str, data: &str) {
    let _ = data::message::parse(event, data);
}

/// Events of FDv2, and the body of a poll.
pub fn transfer(events: &[(&str, &str)], body: &str) {
    use data::transfer::{Step, Transfer};

    let mut transfer = Transfer::new(false);
    let mut items = None;
    for (name, data) in events {
        let Ok(step) = data::transfer::parse(name, *data).and_then(|it| transfer.push(it, data.len())) else { break };
        if let Step::Complete(set) = step {
            items = Some(set.merged(items.as_ref()));
        }
    }
    let _ = data::transfer::poll(body.to_owned(), true);
}

pub fn context(input: &[u8]) {
    let _ = Context::parse(input);
    if let Ok(text) = std::str::from_utf8(input) {
        downstream::fuzz_segment(text);
    }
}

pub fn post(body: &[u8]) {
    downstream::fuzz_post(body);
}

pub fn gzip(body: &[u8]) {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).expect("a vector takes every write");
    let mut compressed = encoder.finish().expect("a vector takes every write");
    downstream::fuzz_post(&compressed);
    // Damaged at a position that depends on the input, because mutations of compressed bytes rarely pass the header.
    if let Some(first) = body.first() {
        let place = usize::from(*first) % compressed.len();
        compressed[place] ^= body.last().copied().unwrap_or(1);
        downstream::fuzz_post(&compressed);
    }
}

pub fn summary(event: &str) {
    events::fuzz_summary(event);
}

/// A data archive of offline mode.
pub fn archive(bytes: &[u8]) {
    sources::archive::fuzz(bytes);
}

/// A configuration file of ld-relay.
pub fn relay_configuration(bytes: &[u8]) {
    crate::config::compat::fuzz(bytes);
}

/// A status document of a relay that is upstream.
pub fn relay_status(bytes: &[u8]) {
    let _ = sources::upstream_relay::RelayStatus::read(bytes);
}

/// Content that another gateway published, and the content that is published again from it.
pub fn shared_content(entries: &[(&str, Option<&str>)]) {
    use yardarm_fleet::Content;

    let entries = entries.iter().map(|(key, text)| ((*key).into(), text.map(Into::into))).collect();
    if let Some(items) = store::content::with_changes(data::Items::default(), entries) {
        let again = store::content::with_changes(data::Items::default(), data::Items::changes(None, &items));
        assert!(again.is_some_and(|it| it.looks_like(&items)), "what is published is read as it was");
    }
}
