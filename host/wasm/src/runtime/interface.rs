//! Calls and replies of guests, independent of the version of the interface.
//!
//! One file per released version converts between these types and the generated ones, which are private to it.

mod differences;
pub(crate) mod v0_1;

use std::future::Future;
use std::sync::Arc;

use yardarm_core::hooks::{
    AdmittedRequest, BatchFacts, ChangeNotice, ContextView, DenialClass, EnrichmentFacts, EvaluationFacts, Event,
    Identity, PayloadFacts, PayloadView, RequestFacts, RequestId, ResultView,
};

pub(crate) use self::differences::{Comparable, Differing};
use crate::runtime::guest::Instance;
use crate::vocabulary::{CallError, Hook, Outcome};

/// One call of an instance. A clone shares the input.
pub(crate) trait HookCall: Clone + Into<AnyCall> + Send + Sync + 'static {
    /// The hook that is called.
    const HOOK: Hook;
    /// The reply, not validated yet.
    type Reply: Comparable + Clone + Send + 'static;

    /// Returns the request that the call is made for, if there is one.
    fn request(&self) -> Option<&RequestFacts>;

    /// Returns the identifier of that request.
    fn request_id(&self) -> Option<RequestId> {
        self.request().map(|facts| facts.id)
    }

    /// Returns a valid reply in words for an operator, if its outcome does not say all.
    fn summary(_: &Self::Reply) -> Option<String> {
        None
    }

    /// Returns the maximum size of the reply in bytes, given how many bytes of host data the guest has read.
    fn output_limit(&self, lent: usize) -> usize;

    /// Returns the size of a reply in bytes.
    fn output_size(reply: &Self::Reply) -> usize;

    /// Returns how a valid reply is counted.
    fn outcome(reply: &Self::Reply) -> Outcome;

    /// Calls the guest. The outer error is one of Wasmtime, the inner one is the guest's own.
    fn ask(
        &self,
        instance: &mut Instance,
    ) -> impl Future<Output = wasmtime::Result<Result<Self::Reply, CallError>>> + Send;
}

/// A call of `request-auth`.
#[derive(Clone)]
pub(crate) struct Authenticate {
    /// The request, with the identity that earlier plugins gave to the caller.
    pub(crate) request: AdmittedRequest,
}

/// A call of `event-filter`.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) facts: BatchFacts,
    pub(crate) events: Arc<Vec<Event>>,
}

/// A call of `payload-transform`.
#[derive(Clone)]
pub(crate) struct TransformPayload {
    pub(crate) facts: PayloadFacts,
    pub(crate) view: Arc<dyn PayloadView>,
}

/// A call of `context-enrichment`.
#[derive(Clone)]
pub(crate) struct Enrich {
    pub(crate) facts: EnrichmentFacts,
    pub(crate) context: Arc<dyn ContextView>,
}

/// A call of `evaluation-transform`.
#[derive(Clone)]
pub(crate) struct TransformResults {
    pub(crate) facts: EvaluationFacts,
    pub(crate) view: Arc<dyn ResultView>,
}

/// A call of `route-resolver`.
#[derive(Clone)]
pub(crate) struct Resolve {
    /// The request, whose environment is not known yet.
    pub(crate) request: AdmittedRequest,
}

/// A call of `background`.
#[derive(Clone)]
pub(crate) struct Refresh;

/// A call of `change-listener`.
#[derive(Clone)]
pub(crate) struct Announce {
    pub(crate) notice: ChangeNotice,
}

/// A call of any hook.
#[derive(Clone)]
pub(crate) enum AnyCall {
    Authenticate(Authenticate),
    Filter(Filter),
    TransformPayload(TransformPayload),
    Enrich(Enrich),
    TransformResults(TransformResults),
    Resolve(Resolve),
    Refresh(Refresh),
    Announce(Announce),
}

macro_rules! any_call {
    ($($call:ident),*) => {
        $(impl From<$call> for AnyCall {
            fn from(call: $call) -> Self {
                Self::$call(call)
            }
        })*

        impl AnyCall {
            /// Returns the hook that is called.
            pub(crate) fn hook(&self) -> Hook {
                match self {
                    $(Self::$call(_) => <$call as HookCall>::HOOK,)*
                }
            }
        }
    };
}

any_call!(Authenticate, Filter, TransformPayload, Enrich, TransformResults, Resolve, Refresh, Announce);

impl AnyCall {
    /// Returns the request that the call is made for, if there is one.
    pub(crate) fn request(&self) -> Option<&AdmittedRequest> {
        match self {
            Self::Authenticate(Authenticate { request }) | Self::Resolve(Resolve { request }) => Some(request),
            Self::Filter(it) => Some(&it.facts.request),
            Self::Enrich(it) => Some(&it.facts.request),
            Self::TransformResults(it) => Some(&it.facts.request),
            Self::TransformPayload(_) | Self::Refresh(_) | Self::Announce(_) => None,
        }
    }
}

/// Reply to [`Authenticate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow {
        identity: Option<Identity>,
        response_headers: Vec<(String, Vec<u8>)>,
    },
    Deny {
        class: DenialClass,
        reason: Option<String>,
        retry_after: Option<u32>,
        response_headers: Vec<(String, Vec<u8>)>,
    },
    Abstain,
}

/// Part of a reply to [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawEventEdit {
    Drop(u32),
    Replace(u32, Vec<Vec<u8>>),
    Add(Vec<u8>),
}

/// Part of a reply to [`TransformPayload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawEdit {
    Drop(u32),
    Replace(u32, Vec<u8>),
    Add(RawAddition),
}

/// An item that a plugin adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawAddition {
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) json: Vec<u8>,
    /// Index of the changed item that it is derived from.
    pub(crate) derived_from: Option<u32>,
}

/// Part of a reply to [`TransformResults`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawResultEdit {
    Drop(u32),
    Replace { index: u32, value: Option<Vec<u8>>, variation: Option<u32>, reason: Option<Vec<u8>> },
    Add { flag: String, value: Vec<u8>, variation: Option<u32>, reason: Option<Vec<u8>> },
}
