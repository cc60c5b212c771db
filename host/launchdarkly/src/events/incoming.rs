//! Posts of SDKs.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use yardarm_core::budget::Charge;
use yardarm_core::hooks::AdmittedRequest;

use super::post::Form;
use super::split::Split;
use crate::identity::SdkKind;

/// The last schema whose events every SDK sends unsummarised (L197, L199).
const LAST_UNSUMMARISED_SCHEMA: u32 = 2;

/// One post of events by an SDK.
pub(crate) struct Post {
    pub(crate) kind: SdkKind,
    pub(crate) request: AdmittedRequest,
    /// Version of the event format.
    pub(crate) schema: u32,
    /// Whether the SDK leaves summarising to the gateway.
    pub(crate) is_unsummarized: bool,
    /// Value of `X-LaunchDarkly-Tags`.
    pub(crate) tags: Option<Arc<str>>,
    /// Its events.
    pub(crate) split: Split,
}

/// One diagnostic post: an SDK's statistics about itself.
pub(crate) struct Diagnostic {
    pub(crate) kind: SdkKind,
    pub(crate) request: AdmittedRequest,
    /// Path at the events service.
    pub(crate) path: String,
    /// All headers from the SDK.
    pub(crate) headers: HeaderMap,
    /// Decompressed.
    pub(crate) body: Bytes,
    /// Memory that the body takes.
    pub(crate) charge: Charge,
}

/// Too many posts are in flight.
#[derive(Debug)]
pub(crate) struct Busy;

impl Post {
    /// How its events are forwarded.
    pub(super) fn form(&self) -> Form {
        if self.is_unsummarized || self.schema <= LAST_UNSUMMARISED_SCHEMA { Form::Summarised } else { Form::Verbatim }
    }
}
