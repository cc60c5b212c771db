//! Events of PHP and very old SDKs: one per evaluation, with the whole context in it.
//!
//! The rules (L197 to L210) follow ld-relay's `internal/events/oldevents`.

use std::borrow::Cow;

use thiserror::Error;
use yardarm_launchdarkly_eval::model::{ContextError, ContextKeys, JsonReader, Mismatch};

/// An event that was received.
#[derive(Debug, PartialEq)]
pub(super) enum ReceivedEvent<'a> {
    /// A flag was evaluated.
    Feature(Feature<'a>),
    /// A custom event of the application.
    Custom(Custom<'a>),
    /// The application identified a context.
    Identify(EventOrigin<'a>),
    /// An event that is forwarded unchanged.
    Other,
}

/// Time and context of an event.
#[derive(Debug, PartialEq)]
pub(super) struct EventOrigin<'a> {
    /// Unix milliseconds.
    pub(super) at_ms: u64,
    /// Byte for byte as received: the SDK has already removed private attributes.
    pub(super) context: &'a str,
    pub(super) identity: ContextKeys,
}

/// An evaluation of a flag.
#[derive(Debug, PartialEq)]
pub(super) struct Feature<'a> {
    pub(super) source: EventOrigin<'a>,
    /// The flag's key.
    pub(super) key: Cow<'a, str>,
    /// The flag's version; `None` if the SDK did not know the flag.
    pub(super) version: Option<i64>,
    pub(super) variation: Option<i64>,
    /// JSON, `null` if absent.
    pub(super) value: &'a str,
    /// JSON, `null` if absent.
    pub(super) default: &'a str,
    /// JSON of an object.
    pub(super) reason: Option<&'a str>,
    /// Whether a full event is wanted; `None` from SDKs that are too old for it.
    pub(super) track_events: Option<bool>,
    /// Until when a debug event is wanted, in Unix milliseconds; 0 for never, and from SDKs that are too old for it.
    pub(super) debug_until_ms: u64,
    /// The SDK sends one of this many events.
    pub(super) sampling_ratio: Option<i64>,
    pub(super) is_excluded_from_summaries: bool,
}

/// A custom event of the application.
#[derive(Debug, PartialEq)]
pub(super) struct Custom<'a> {
    pub(super) source: EventOrigin<'a>,
    pub(super) key: Cow<'a, str>,
    /// JSON.
    pub(super) data: Option<&'a str>,
    /// JSON of a number.
    pub(super) metric_value: Option<&'a str>,
}

/// Why a text is not an event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ReadError {
    /// Not UTF-8.
    #[error("not text")]
    NotText,
    /// Not an object.
    #[error("{0}")]
    NotAnObject(Mismatch),
    /// No `kind`, or an empty one.
    #[error("no `kind`")]
    NoKind,
    /// A property has the wrong JSON type.
    #[error("property `{0}`: {1}")]
    Property(&'static str, Mismatch),
    /// Neither `context` nor `user`.
    #[error("neither `context` nor `user`")]
    NoContext,
    /// The context is invalid.
    #[error("context: {0}")]
    Context(#[from] ContextError),
}

/// Reads one event, which must be JSON.
pub(super) fn read(json: &[u8]) -> Result<ReceivedEvent<'_>, ReadError> {
    let text = std::str::from_utf8(json).map_err(|_| ReadError::NotText)?;
    let properties = Properties::collect(text).map_err(ReadError::NotAnObject)?;
    let kind = typed("kind", properties.kind, JsonReader::string)?.unwrap_or_default();
    Ok(match &*kind {
        "" => return Err(ReadError::NoKind),
        "feature" => ReceivedEvent::Feature(properties.feature()?),
        "custom" => ReceivedEvent::Custom(properties.custom()?),
        "identify" => ReceivedEvent::Identify(properties.source()?),
        _ => ReceivedEvent::Other,
    })
}

/// The JSON of each property that some kind of event uses. A `null` counts as absent.
///
/// Their types depend on the kind, which may come last, so they are collected first.
#[derive(Default)]
struct Properties<'a> {
    kind: Option<&'a str>,
    creation_date: Option<&'a str>,
    key: Option<&'a str>,
    context: Option<&'a str>,
    user: Option<&'a str>,
    version: Option<&'a str>,
    variation: Option<&'a str>,
    value: Option<&'a str>,
    default: Option<&'a str>,
    reason: Option<&'a str>,
    track_events: Option<&'a str>,
    debug_events_until_date: Option<&'a str>,
    sampling_ratio: Option<&'a str>,
    exclude_from_summaries: Option<&'a str>,
    data: Option<&'a str>,
    metric_value: Option<&'a str>,
}

impl<'a> Properties<'a> {
    fn collect(text: &'a str) -> Result<Self, Mismatch> {
        let mut all = Self::default();
        JsonReader::new(text).object(|name, reader| {
            let json = &text[reader.skip()];
            let place = match name {
                "kind" => &mut all.kind,
                "creationDate" => &mut all.creation_date,
                "key" => &mut all.key,
                "context" => &mut all.context,
                "user" => &mut all.user,
                "version" => &mut all.version,
                "variation" => &mut all.variation,
                "value" => &mut all.value,
                "default" => &mut all.default,
                "reason" => &mut all.reason,
                "trackEvents" => &mut all.track_events,
                "debugEventsUntilDate" => &mut all.debug_events_until_date,
                "samplingRatio" => &mut all.sampling_ratio,
                "excludeFromSummaries" => &mut all.exclude_from_summaries,
                "data" => &mut all.data,
                "metricValue" => &mut all.metric_value,
                _ => return Ok(()),
            };
            *place = Some(json).filter(|it| *it != "null");
            Ok::<_, Mismatch>(())
        })?;
        Ok(all)
    }

    fn feature(&self) -> Result<Feature<'a>, ReadError> {
        let reason = typed("reason", self.reason, object)?;
        Ok(Feature {
            source: self.source()?,
            key: typed("key", self.key, JsonReader::string)?.unwrap_or_default(),
            version: typed("version", self.version, JsonReader::integer)?,
            variation: typed("variation", self.variation, JsonReader::integer)?,
            value: self.value.unwrap_or("null"),
            default: self.default.unwrap_or("null"),
            reason: reason.and(self.reason),
            track_events: typed("trackEvents", self.track_events, JsonReader::boolean)?,
            debug_until_ms: time("debugEventsUntilDate", self.debug_events_until_date)?,
            sampling_ratio: typed("samplingRatio", self.sampling_ratio, JsonReader::integer)?,
            is_excluded_from_summaries: typed(
                "excludeFromSummaries",
                self.exclude_from_summaries,
                JsonReader::boolean,
            )?
            .unwrap_or_default(),
        })
    }

    fn custom(&self) -> Result<Custom<'a>, ReadError> {
        let metric_value = typed("metricValue", self.metric_value, JsonReader::number)?;
        Ok(Custom {
            source: self.source()?,
            key: typed("key", self.key, JsonReader::string)?.unwrap_or_default(),
            data: self.data,
            metric_value: metric_value.and(self.metric_value),
        })
    }

    fn source(&self) -> Result<EventOrigin<'a>, ReadError> {
        let context = self.context.or(self.user).ok_or(ReadError::NoContext)?;
        Ok(EventOrigin {
            at_ms: time("creationDate", self.creation_date)?,
            context,
            identity: ContextKeys::parse(context)?,
        })
    }
}

/// Reads a property that has one type, or is absent.
fn typed<'a, T>(
    name: &'static str,
    json: Option<&'a str>,
    read: impl FnOnce(&mut JsonReader<'a>) -> Result<T, Mismatch>,
) -> Result<Option<T>, ReadError> {
    json.map(|json| read(&mut JsonReader::new(json))).transpose().map_err(|error| ReadError::Property(name, error))
}

/// Reads a time in Unix milliseconds; 0 if absent. Negative and too large times saturate.
fn time(name: &'static str, json: Option<&str>) -> Result<u64, ReadError> {
    Ok(typed(name, json, JsonReader::number)?.unwrap_or_default() as u64)
}

/// Reads an object with any content.
fn object(reader: &mut JsonReader<'_>) -> Result<(), Mismatch> {
    reader.object(|_, reader| {
        reader.skip();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(properties: &str) -> Result<String, String> {
        let event = format!(r#"{{"key":"f","user":{{"key":"u"}},{properties},"kind":"feature"}}"#);
        match read(event.as_bytes()) {
            Ok(ReceivedEvent::Feature(it)) => Ok(format!(
                "{}@{} {:?}/{:?} {} or {} because {:?}, {:?} until {}, 1 of {:?}, {}",
                it.source.identity.canonical_key(),
                it.source.at_ms,
                it.version,
                it.variation,
                it.value,
                it.default,
                it.reason,
                it.track_events,
                it.debug_until_ms,
                it.sampling_ratio,
                it.is_excluded_from_summaries
            )),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_properties_of_an_evaluation_are_read() {
        let nothing = "u@0 None/None null or null because None, None until 0, 1 of None, false";
        for (properties, expected) in [
            (r#""x":1"#, nothing),
            (
                r#""version":null,"variation":null,"value":null,"reason":null,"trackEvents":null,"debugEventsUntilDate":null,
                   "samplingRatio":null,"excludeFromSummaries":null,"creationDate":null,"context":null"#,
                nothing,
            ),
            (
                r#""creationDate":1000.9,"version":16,"variation":1,"value":{"a": 1.0},"default":"d","reason":{"kind":"OFF"},
                   "trackEvents":false,"debugEventsUntilDate":2000,"samplingRatio":7,"excludeFromSummaries":true"#,
                r#"u@1000 Some(16)/Some(1) {"a": 1.0} or "d" because Some("{\"kind\":\"OFF\"}"), Some(false) until 2000, 1 of Some(7), true"#,
            ),
            (r#""context":{"kind":"org","key":"o"}"#, &nothing.replace("u@", "org:o@")),
            (r#""creationDate":-5,"version":1e400"#, &nothing.replacen("None", "Some(9223372036854775807)", 1)),
        ] {
            assert_eq!(feature(properties).as_deref(), Ok(expected), "{properties}");
        }
    }

    #[test]
    fn an_event_with_a_property_of_the_wrong_type_is_rejected() {
        for (properties, expected) in [
            (r#""version":"1""#, "property `version`: expected number, got string at position 0"),
            (r#""variation":[1]"#, "property `variation`: expected number, got array at position 0"),
            (r#""creationDate":"now""#, "property `creationDate`: expected number, got string at position 0"),
            (r#""trackEvents":1"#, "property `trackEvents`: expected boolean, got number at position 0"),
            (
                r#""debugEventsUntilDate":true"#,
                "property `debugEventsUntilDate`: expected number, got boolean at position 0",
            ),
            (r#""samplingRatio":"1""#, "property `samplingRatio`: expected number, got string at position 0"),
            (
                r#""excludeFromSummaries":0"#,
                "property `excludeFromSummaries`: expected boolean, got number at position 0",
            ),
            (r#""reason":"OFF""#, "property `reason`: expected object, got string at position 0"),
            (r#""key":1"#, "property `key`: expected string, got number at position 0"),
            (r#""context":"u""#, "context: expected object, got string at position 0"),
            (r#""context":{"kind":"org"}"#, "context: \"key\" property not found in JSON context object"),
        ] {
            assert_eq!(feature(properties).as_deref().map_err(|it| it.as_str()), Err(expected), "{properties}");
        }
    }

    #[test]
    fn texts_that_are_not_events_have_reasons() {
        for (json, expected) in [
            ("7", "expected object, got number at position 0"),
            ("null", "expected object, got null at position 0"),
            ("{}", "no `kind`"),
            (r#"{"kind":null}"#, "no `kind`"),
            (r#"{"kind":""}"#, "no `kind`"),
            (r#"{"kind":1}"#, "property `kind`: expected string, got number at position 0"),
            (r#"{"kind":"feature"}"#, "neither `context` nor `user`"),
            (r#"{"kind":"identify","user":null}"#, "neither `context` nor `user`"),
            (
                r#"{"kind":"custom","user":{"key":"u"},"metricValue":"1"}"#,
                "property `metricValue`: expected number, got string at position 0",
            ),
        ] {
            assert_eq!(read(json.as_bytes()).map_err(|it| it.to_string()), Err(expected.to_owned()), "{json}");
        }
        assert_eq!(read(b"\"\xff\""), Err(ReadError::NotText));
    }

    #[test]
    fn events_of_unknown_kinds_may_have_any_properties() {
        for json in
            [r#"{"kind":"alias","key":5}"#, r#"{"context":7,"kind":"migration_op"}"#, r#"{"kind":"\u0061lias"}"#]
        {
            assert_eq!(read(json.as_bytes()), Ok(ReceivedEvent::Other), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(json in "\\PC*|[\\[\\]{}\",:\\\\ntf0-9 ukeycx]*") {
            let _ = read(json.as_bytes());
        }
    }
}
