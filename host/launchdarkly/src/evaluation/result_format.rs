//! The forms in which clients receive results: an evalx object, or objects of the second version of the delivery protocol.

use yardarm_core::sse::write_event;
use yardarm_launchdarkly_eval::evaluation::{Evaluated, Replaced};

use super::evaluation_request::AddedResult;
use crate::data::FlagData;
use crate::data::fdv2::{Event, Intent, write_end, write_intent};
use crate::data::render::write_text;

/// The form of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResultFormat {
    /// One JSON object with a property per flag.
    Evalx,
    /// `put-object` and `delete-object` of the kind [`KIND`].
    Objects,
}

/// The kind of an object that holds a result.
const KIND: &str = "flag-eval";

impl ResultFormat {
    /// The bytes between two entries of a stream.
    pub(crate) fn separator(self) -> &'static [u8] {
        match self {
            Self::Evalx => b",",
            Self::Objects => b"",
        }
    }

    /// Writes what precedes all entries in the first event or events of a stream.
    pub(crate) fn write_start(self, data: &FlagData, out: &mut Vec<u8>) {
        match self {
            Self::Evalx => out.extend_from_slice(b"event: put\ndata: {"),
            Self::Objects => {
                let state = data.state();
                let name = state.to_string();
                let data: &dyn Fn(&mut Vec<u8>) = &|out| write_intent(&name, state, Intent::Everything, out);
                Event { name: "server-intent", data }.write_sse(out);
            }
        }
    }

    /// Writes what follows all entries.
    pub(crate) fn write_end(self, data: &FlagData, out: &mut Vec<u8>) {
        match self {
            Self::Evalx => out.extend_from_slice(b"}\n\n"),
            Self::Objects => {
                let state = data.state();
                let name = state.to_string();
                Event { name: "payload-transferred", data: &|out| write_end(&name, state, out) }.write_sse(out);
            }
        }
    }

    /// Writes the entry of a flag on a stream: a property, or an event.
    pub(crate) fn write_entry(
        self,
        evaluated: &Evaluated<'_>,
        replaced: Replaced<'_>,
        with_reasons: bool,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Evalx => evaluated.write_entry(replaced, with_reasons, out),
            Self::Objects => write_event("put-object", out, |out| write_put(evaluated, replaced, with_reasons, out)),
        }
    }

    /// Writes the entry of a result that plugins add.
    pub(crate) fn write_added(self, added: &AddedResult<'_>, with_reasons: bool, out: &mut Vec<u8>) {
        match self {
            Self::Evalx => {
                write_text(added.key(), out);
                out.push(b':');
                added.write_object(with_reasons, out);
            }
            Self::Objects => write_event("put-object", out, |out| write_put_added(added, with_reasons, out)),
        }
    }
}

/// Writes the data of `put-object` for a result.
pub(crate) fn write_put(evaluated: &Evaluated<'_>, replaced: Replaced<'_>, with_reasons: bool, out: &mut Vec<u8>) {
    write_head(evaluated.key(), evaluated.version(), out);
    out.extend_from_slice(b",\"object\":");
    evaluated.write_object(replaced, with_reasons, out);
    out.push(b'}');
}

/// Writes the data of `put-object` for a result that plugins add. SDKs ignore an object without a version.
pub(crate) fn write_put_added(added: &AddedResult<'_>, with_reasons: bool, out: &mut Vec<u8>) {
    write_head(added.key(), 1, out);
    out.extend_from_slice(b",\"object\":");
    added.write_object(with_reasons, out);
    out.push(b'}');
}

/// Writes the data of `delete-object`.
pub(crate) fn write_delete(key: &str, version: i64, out: &mut Vec<u8>) {
    write_head(key, version, out);
    out.push(b'}');
}

fn write_head(key: &str, version: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"version\":{version},\"kind\":\"{KIND}\",\"key\":").as_bytes());
    write_text(key, out);
}
