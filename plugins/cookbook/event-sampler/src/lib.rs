//! Forwards a sample of events, and each event once.
//!
//! Whether an event is in the sample depends on the key of its context only: a user is in it or not, on every gateway and for
//! every kind of event, so that what is forwarded stays consistent. An SDK that has received no response sends its events
//! again, as they were; the digest of a post is stored for a time, and the repetition is dropped.

mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use yardarm_plugin::{
    Event, EventEdit, EventFilter, Events, Plugin, PluginError, Request, Result, Verdict, kv, log, matches, metrics,
};

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Kind of context whose key decides. Events without it are forwarded.
    #[serde(default = "user")]
    by: String,
    /// Shares of events to forward, from 0 to 1, by patterns for their kinds. Other kinds are forwarded.
    #[serde(default)]
    sample: BTreeMap<String, f64>,
    /// Time in which the repetition of a post is dropped; 0 for never.
    #[serde(default)]
    once_within_s: u64,
}

/// The plugin.
struct EventSampler(Config);

impl Plugin for EventSampler {
    type Config = Config;

    fn new(config: Config) -> Result<Self> {
        match config.sample.iter().find(|(_, share)| !(0.0..=1.0).contains(*share)) {
            Some((kind, share)) => {
                Err(PluginError::invalid_input(format_args!("`sample.{kind}`: {share} is not a number from 0 to 1")))
            }
            None => Ok(Self(config)),
        }
    }
}

impl EventFilter for EventSampler {
    fn filter(&self, _: &dyn Request, event: &Event) -> Result<Verdict> {
        Ok(if self.is_in_sample(event)? { Verdict::Keep } else { Verdict::Drop })
    }

    fn filter_batch(&self, request: &dyn Request, events: &dyn Events) -> Result<Vec<EventEdit>> {
        let events = events.all();
        let is_repeated = self.is_repeated(request, &events)?;
        let mut seen = BTreeSet::new();
        let mut edits = Vec::new();
        for (event, index) in events.iter().zip(0..) {
            let reason = if is_repeated || !seen.insert(event.body()?) {
                "repeated"
            } else if self.filter(request, event)? == Verdict::Drop {
                "sampled"
            } else {
                continue;
            };
            metrics::count("dropped_total", 1, &[("reason", reason)]);
            edits.push(EventEdit::Drop(index));
        }
        Ok(edits)
    }
}

impl EventSampler {
    /// Returns whether the same post was there within the time, and stores it otherwise.
    fn is_repeated(&self, request: &dyn Request, events: &[Event]) -> Result<bool> {
        if self.0.once_within_s == 0 {
            return Ok(false);
        }
        let mut digest = Sha256::new();
        for text in [request.vendor(), request.environment(), request.sdk()] {
            digest.update(text + "\n");
        }
        for event in events {
            // A line feed cannot be part of JSON text that SDKs send in one line, and separates events in any case.
            digest.update(event.body()?);
            digest.update("\n");
        }
        let time = Duration::from_secs(self.0.once_within_s);
        match kv::compare_and_set(&format!("{:x}", digest.finalize()), None, b"", Some(time)) {
            Ok(is_new) => Ok(!is_new),
            // An event that arrives twice is better than a lost one.
            Err(error) => {
                log::warn!("repeated events are not noticed: {error}");
                Ok(false)
            }
        }
    }

    fn is_in_sample(&self, event: &Event) -> Result<bool> {
        let sampled = self.0.sample.iter().find(|(pattern, _)| matches(pattern, event.kind()));
        let Some((_, share)) = sampled else { return Ok(true) };
        let subject = subject::key(event.body()?, &self.0.by)?;
        Ok(subject.is_none_or(|key| position(&key) < *share))
    }
}

/// Returns the place of a key between 0 and 1, evenly distributed.
#[expect(clippy::cast_precision_loss, reason = "32 bits are exact")]
fn position(key: &str) -> f64 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(key));
    f64::from(u32::from_be_bytes([a, b, c, d])) / (u64::from(u32::MAX) + 1) as f64
}

fn user() -> String {
    "user".to_owned()
}

yardarm_plugin::export!(
    EventSampler: event_filter;
    manifest = r#"{"grants": [
        {"grant": "event-bodies", "why": "to know events that were sent before"},
        {"grant": "kv", "why": "to remember them"}
    ]}"#,
);

#[cfg(test)]
mod tests {
    use yardarm_plugin::from_config;
    use yardarm_plugin::testing::{Batch, TestRequest};

    use super::*;

    fn dropped(plugin: &EventSampler, events: &[(&str, String)]) -> Vec<u32> {
        let events = Batch::of(events.iter().map(|(kind, body)| Event::new(*kind, body.as_str())));
        let edits = plugin.filter_batch(&TestRequest::default(), &events).unwrap();
        let index = |edit| if let EventEdit::Drop(index) = edit { index } else { panic!("{edit:?}") };
        edits.into_iter().map(index).collect()
    }

    fn event(user: usize) -> String {
        format!(r#"{{"kind":"custom","contextKeys":{{"user":"user-{user}"}}}}"#)
    }

    #[test]
    fn the_sample_has_its_share_and_is_part_of_larger_ones() {
        let forwarded = |share: &str| {
            let plugin: EventSampler = from_config(&format!(r#"{{"sample": {{"cust*": {share}}}}}"#)).unwrap();
            let events: Vec<_> = (0..1_000).map(|user| ("custom", event(user))).collect();
            let dropped = dropped(&plugin, &events);
            (0..1_000).filter(|index| !dropped.contains(index)).collect::<BTreeSet<_>>()
        };
        let (tenth, half) = (forwarded("0.1"), forwarded("0.5"));
        assert!(
            (70..=130).contains(&tenth.len()) && (450..=550).contains(&half.len()),
            "{} {}",
            tenth.len(),
            half.len()
        );
        assert!(tenth.is_subset(&half));
        assert_eq!((forwarded("0").len(), forwarded("1").len()), (0, 1_000));
    }

    #[test]
    fn other_kinds_and_events_without_a_subject_are_forwarded() {
        let plugin: EventSampler = from_config(r#"{"by": "org", "sample": {"custom": 0}}"#).unwrap();
        let of_org = r#"{"contextKeys":{"org":"a"}}"#.to_owned();
        let events =
            [("custom", event(1)), ("identify", of_org.clone()), ("custom", of_org), ("summary", "{}".to_owned())];
        assert_eq!(dropped(&plugin, &events), [2]);
    }

    #[test]
    fn each_event_is_forwarded_once() {
        let plugin: EventSampler = from_config(r#"{"once_within_s": 60}"#).unwrap();
        let post = |users: &[usize]| users.iter().map(|user| ("custom", event(*user))).collect::<Vec<_>>();
        assert_eq!(dropped(&plugin, &post(&[1, 2, 1])), [2], "twice in one post");
        assert_eq!(dropped(&plugin, &post(&[1, 2, 1])), [0, 1, 2], "the same post");
        assert_eq!(dropped(&plugin, &post(&[1, 2])), [0; 0], "another post");
        let plugin: EventSampler = from_config("{}").unwrap();
        assert_eq!(dropped(&plugin, &post(&[1, 2])), [0; 0]);
    }

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        for share in ["1.5", "-0.1"] {
            let config = format!(r#"{{"sample": {{"custom": {share}}}}}"#);
            let error = from_config::<EventSampler>(&config).err().unwrap().to_string();
            assert!(error.contains(&format!("`sample.custom`: {share} is not a number")), "{error}");
        }
    }
}
