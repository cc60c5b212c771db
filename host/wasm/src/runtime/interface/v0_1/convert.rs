//! Conversion of this version's replies to the host's types.

use yardarm_core::hooks::{Denial, Identity};

use super::exports;
use super::host::types::PluginError;
use crate::runtime::interface::{Decision, RawEdit, RawResultEdit, RawVerdict};
use crate::vocabulary::{CallError, clean};

impl From<PluginError> for CallError {
    fn from(error: PluginError) -> Self {
        let (kind, text) = match error {
            PluginError::InvalidInput(text) => ("invalid-input", text),
            PluginError::Temporary(text) => ("temporary", text),
            PluginError::Internal(text) => ("internal", text),
        };
        Self::Guest { kind, text: clean(&text) }
    }
}

impl From<exports::request_auth::Decision> for Decision {
    fn from(decision: exports::request_auth::Decision) -> Self {
        use exports::request_auth as generated;
        match decision {
            generated::Decision::Allow(identity) => {
                Self::Allow(Identity { principal: identity.principal, tags: identity.tags })
            }
            generated::Decision::Deny(denial) => Self::Deny(match denial {
                generated::Denial::Unauthorized => Denial::Unauthorized,
                generated::Denial::Forbidden => Denial::Forbidden,
                generated::Denial::RateLimited(seconds) => Denial::RateLimited(seconds),
                generated::Denial::Unavailable => Denial::Unavailable,
            }),
            generated::Decision::Abstain => Self::Abstain,
        }
    }
}

impl From<exports::event_filter::Verdict> for RawVerdict {
    fn from(verdict: exports::event_filter::Verdict) -> Self {
        match verdict {
            exports::event_filter::Verdict::Keep => Self::Keep,
            exports::event_filter::Verdict::Drop => Self::Drop,
            exports::event_filter::Verdict::Replace(json) => Self::Replace(json),
        }
    }
}

impl From<exports::payload_transform::Edit> for RawEdit {
    fn from(edit: exports::payload_transform::Edit) -> Self {
        match edit {
            exports::payload_transform::Edit::Drop(index) => Self::Drop(index),
            exports::payload_transform::Edit::Replace(replacement) => {
                Self::Replace(replacement.index, replacement.json)
            }
            exports::payload_transform::Edit::Add(addition) => {
                Self::Add { kind: addition.kind, key: addition.key, json: addition.json }
            }
        }
    }
}

impl From<exports::evaluation_transform::Edit> for RawResultEdit {
    fn from(edit: exports::evaluation_transform::Edit) -> Self {
        let value = match edit.change {
            exports::evaluation_transform::Change::Drop => None,
            exports::evaluation_transform::Change::Replace(json) => Some(json),
        };
        Self { index: edit.index, value }
    }
}
