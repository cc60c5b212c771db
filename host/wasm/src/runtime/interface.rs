//! Calls and replies of guests, independent of the version of the interface.
//!
//! One file per released version converts between these types and the generated ones, which are private to it.

pub(crate) mod v0_1;

use std::future::Future;
use std::sync::Arc;

use yardarm_core::hooks::{BatchFacts, Denial, Event, Identity, PayloadView, RequestFacts, ResultView};
use yardarm_core::hooks::{EvaluationFacts, PayloadFacts};

use crate::runtime::guest::Instance;
use crate::vocabulary::{CallError, Hook};

/// One call of an instance.
pub(crate) trait HookCall: Sync {
    /// The hook that is called.
    const HOOK: Hook;
    /// The reply, not validated yet.
    type Reply: Send;

    /// Returns the maximum size of the reply in bytes, given how many bytes of host data the guest has read.
    fn output_limit(&self, lent: usize) -> usize;

    /// Returns the size of a reply in bytes.
    fn output_size(reply: &Self::Reply) -> usize;

    /// Calls the guest. The outer error is one of Wasmtime, the inner one is the guest's own.
    fn ask(
        &self,
        instance: &mut Instance,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Reply, CallError>>> + Send;
}

/// A call of `request-auth`.
pub(crate) struct Authenticate<'a>(pub(crate) &'a RequestFacts);

/// A call of `event-filter`.
pub(crate) struct Filter<'a> {
    pub(crate) facts: &'a BatchFacts,
    pub(crate) events: &'a [&'a Event],
}

/// A call of `payload-transform`.
pub(crate) struct TransformPayload<'a> {
    pub(crate) facts: &'a PayloadFacts,
    pub(crate) view: &'a Arc<dyn PayloadView>,
}

/// A call of `evaluation-transform`.
pub(crate) struct TransformResults<'a> {
    pub(crate) facts: &'a EvaluationFacts,
    pub(crate) view: &'a Arc<dyn ResultView>,
}

/// Reply to [`Authenticate`].
#[derive(Debug)]
pub(crate) enum Decision {
    Allow(Identity),
    Deny(Denial),
    Abstain,
}

/// Reply to [`Filter`] for one event.
#[derive(Debug)]
pub(crate) enum RawVerdict {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

/// Part of a reply to [`TransformPayload`].
#[derive(Debug)]
pub(crate) enum RawEdit {
    Drop(u32),
    Replace(u32, Vec<u8>),
    Add { kind: String, key: String, json: Vec<u8> },
}

/// Part of a reply to [`TransformResults`]; no value means dropped.
#[derive(Debug)]
pub(crate) struct RawResultEdit {
    pub(crate) index: u32,
    pub(crate) value: Option<Vec<u8>>,
}
