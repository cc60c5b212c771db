//! What the host asks guests and what they answer, whatever version of the interface they speak.
//!
//! One file per released version converts between these words and generated types; nobody else sees a generated type.

pub(crate) mod v0_1;

use std::future::Future;
use std::sync::Arc;

use yardarm_core::hooks::{BatchFacts, Denial, Event, Identity, PayloadView, RequestFacts, ResultView};
use yardarm_core::hooks::{EvaluationFacts, PayloadFacts};

use crate::runtime::guest::Instance;
use crate::vocabulary::{CallError, Hook};

/// One question to one instance.
pub(crate) trait HookCall: Sync {
    /// The hook that answers it.
    const HOOK: Hook;
    /// The answer, not checked yet.
    type Reply: Send;

    /// Bytes that the answer may take, given how much the guest has read of what the host lends.
    fn output_limit(&self, lent: usize) -> usize;

    /// Bytes that an answer takes.
    fn output_size(reply: &Self::Reply) -> usize;

    /// Puts the question. The outer error is one of the machine, the inner one is the guest's own.
    fn ask(
        &self,
        instance: &mut Instance,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Reply, CallError>>> + Send;
}

/// May this request proceed?
pub(crate) struct Authenticate<'a>(pub(crate) &'a RequestFacts);

/// What happens to these events?
pub(crate) struct Filter<'a> {
    pub(crate) facts: &'a BatchFacts,
    pub(crate) events: &'a [&'a Event],
}

/// What should be served of this data?
pub(crate) struct TransformPayload<'a> {
    pub(crate) facts: &'a PayloadFacts,
    pub(crate) view: &'a Arc<dyn PayloadView>,
}

/// What should be sent of these results?
pub(crate) struct TransformResults<'a> {
    pub(crate) facts: &'a EvaluationFacts,
    pub(crate) view: &'a Arc<dyn ResultView>,
}

/// Answer to [`Authenticate`].
#[derive(Debug)]
pub(crate) enum Decision {
    Allow(Identity),
    Deny(Denial),
    Abstain,
}

/// Answer to [`Filter`] for one event.
#[derive(Debug)]
pub(crate) enum RawVerdict {
    Keep,
    Drop,
    Replace(Vec<u8>),
}

/// Part of an answer to [`TransformPayload`].
#[derive(Debug)]
pub(crate) enum RawEdit {
    Drop(u32),
    Replace(u32, Vec<u8>),
    Add { kind: String, key: String, json: Vec<u8> },
}

/// Part of an answer to [`TransformResults`]; no value means dropped.
#[derive(Debug)]
pub(crate) struct RawResultEdit {
    pub(crate) index: u32,
    pub(crate) value: Option<Vec<u8>>,
}
