//! Conversion of this version's replies to the host's types.

use yardarm_core::hooks::{DenialClass, Identity};

use super::exports::{evaluation_transform, event_filter, payload_transform, request_auth};
use super::host::types::{Header, PluginError};
use crate::runtime::interface::{Decision, RawAddition, RawEdit, RawEventEdit, RawResultEdit};
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

fn headers(headers: Vec<Header>) -> Vec<(String, Vec<u8>)> {
    headers.into_iter().map(|header| (header.name, header.value)).collect()
}

impl From<request_auth::Decision> for Decision {
    fn from(decision: request_auth::Decision) -> Self {
        match decision {
            request_auth::Decision::Allow(admission) => Self::Allow {
                identity: admission.identity.map(|it| Identity { principal: it.principal, tags: it.tags }),
                response_headers: headers(admission.response_headers),
            },
            request_auth::Decision::Deny(denial) => Self::Deny {
                class: denial.class.into(),
                reason: denial.reason,
                retry_after: denial.retry_after,
                response_headers: headers(denial.response_headers),
            },
            request_auth::Decision::Abstain => Self::Abstain,
        }
    }
}

impl From<request_auth::DenialClass> for DenialClass {
    fn from(class: request_auth::DenialClass) -> Self {
        match class {
            request_auth::DenialClass::Unauthorized => Self::Unauthorized,
            request_auth::DenialClass::Forbidden => Self::Forbidden,
            request_auth::DenialClass::RateLimited => Self::RateLimited,
            request_auth::DenialClass::Unavailable => Self::Unavailable,
        }
    }
}

impl From<event_filter::Edit> for RawEventEdit {
    fn from(edit: event_filter::Edit) -> Self {
        match edit {
            event_filter::Edit::Drop(index) => Self::Drop(index),
            event_filter::Edit::Replace(it) => Self::Replace(it.index, it.bodies),
            event_filter::Edit::Add(body) => Self::Add(body),
        }
    }
}

impl From<payload_transform::Edit> for RawEdit {
    fn from(edit: payload_transform::Edit) -> Self {
        match edit {
            payload_transform::Edit::Drop(index) => Self::Drop(index),
            payload_transform::Edit::Replace(it) => Self::Replace(it.index, it.body),
            payload_transform::Edit::Add(it) => {
                Self::Add(RawAddition { kind: it.kind, key: it.key, json: it.body, derived_from: it.derived_from })
            }
        }
    }
}

impl From<evaluation_transform::Edit> for RawResultEdit {
    fn from(edit: evaluation_transform::Edit) -> Self {
        match edit {
            evaluation_transform::Edit::Drop(index) => Self::Drop(index),
            evaluation_transform::Edit::Replace(it) => {
                Self::Replace { index: it.index, value: it.value, variation: it.variation, reason: it.reason }
            }
            evaluation_transform::Edit::Add(it) => {
                Self::Add { flag: it.flag, value: it.value, variation: it.variation, reason: it.reason }
            }
        }
    }
}
