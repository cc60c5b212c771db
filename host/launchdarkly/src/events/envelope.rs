//! Kind and time of an event, for event filters.

use bytes::Bytes;
use serde::Deserialize;
use yardarm_core::hooks::Event;

/// The two properties that plugins receive without the grant to read bodies.
#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default, rename = "creationDate")]
    creation_date: Option<f64>,
}

/// The event whose text `body` is, which must be JSON. Kind and time are read on first use.
pub(super) fn event_of(body: Bytes, has_envelope: bool) -> Event {
    let envelope: Envelope =
        if has_envelope { serde_json::from_slice(&body).unwrap_or_default() } else { Envelope::default() };
    Event {
        kind: envelope.kind.map(Into::into),
        // A negative or too large time saturates; for plugins it is a hint.
        at_ms: envelope.creation_date.map(|date| date as u64),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_time_are_read_on_request() {
        let body = Bytes::from_static(br#"{"kind":"custom","creationDate":1.5,"z":1.0}"#);
        let event = event_of(body.clone(), true);
        assert_eq!((event.kind.as_deref(), event.at_ms, &event.body), (Some("custom"), Some(1), &body));
        let event = event_of(body, false);
        assert_eq!((event.kind.as_deref(), event.at_ms), (None, None));
        for (odd, at_ms) in [(&b"7"[..], None), (br#"{"kind":7}"#, None), (br#"{"creationDate":-1}"#, Some(0))] {
            let event = event_of(Bytes::from_static(odd), true);
            assert_eq!((event.kind.as_deref(), event.at_ms), (None, at_ms));
        }
    }
}
