//! The evaluation hook: which results may a client-side SDK see?

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::{AdmittedRequest, HookFailure, HookFuture};

/// Facts about an evaluation that plugins may read besides the results.
#[derive(Clone)]
pub struct EvaluationFacts {
    /// The request for the results.
    pub request: AdmittedRequest,
    /// What flags were evaluated for.
    pub context: Arc<dyn ContextView>,
}

/// A context or target, read one attribute at a time.
pub trait ContextView: Send + Sync {
    /// Returns the kinds, sorted.
    fn kinds(&self) -> Vec<&str>;

    /// Returns the key of a kind.
    fn key(&self, kind: &str) -> Option<&str>;

    /// Returns the fully qualified key of all kinds together.
    fn canonical_key(&self) -> Cow<'_, str>;

    /// Returns the names of the attributes of a kind, sorted.
    fn attributes(&self, kind: &str) -> Vec<String>;

    /// Returns the JSON text of an attribute of a kind.
    fn attribute(&self, kind: &str, name: &str) -> Option<String>;
}

/// Facts about a context that plugins may read besides its attributes.
#[derive(Debug, Clone)]
pub struct EnrichmentFacts {
    /// The request with the context.
    pub request: AdmittedRequest,
}

/// An attribute that a plugin sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextAttribute {
    /// Kind of the context, which exists.
    pub kind: String,
    /// Name of the attribute.
    pub name: String,
    /// JSON text of the value, which is not `null`; validated by the host.
    pub value: Bytes,
}

/// Calls the chain of enrichment plugins of one environment.
pub trait ContextEnrichment: Send + Sync {
    /// Returns a number that changes if and only if a plugin of the chain, its configuration or its position changes;
    /// contexts of open streams are outdated then.
    fn identity(&self) -> u64;

    /// Returns the attributes to set, at most one of a kind and name.
    fn enrich<'a>(
        &'a self,
        facts: &'a EnrichmentFacts,
        context: Arc<dyn ContextView>,
    ) -> HookFuture<'a, Result<Vec<ContextAttribute>, HookFailure>>;
}

/// One evaluated flag, as returned by a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewedResult {
    /// Key of the flag.
    pub flag: Arc<str>,
    /// JSON text of the value.
    pub value: Bytes,
    /// Index of the variation.
    pub variation: Option<u32>,
    /// JSON text of the reason, for vendors that have reasons.
    pub reason: Option<Bytes>,
}

/// The results of one evaluation, read one at a time.
pub trait ResultView: Send + Sync {
    /// Returns the number of results.
    fn len(&self) -> usize;

    /// Returns whether there are no results.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the key of the flag at `index`.
    fn flag(&self, index: usize) -> Option<&str>;

    /// Returns the result at `index`.
    fn get(&self, index: usize) -> Option<ViewedResult>;

    /// Returns the index of a flag.
    fn find(&self, flag: &str) -> Option<usize>;
}

/// Results that were rendered beforehand, sorted by flag.
#[derive(Debug)]
pub struct SortedResults(Vec<ViewedResult>);

impl SortedResults {
    /// Creates a view of `results`, which must be sorted by flag; otherwise [`ResultView::find`] misses flags.
    #[must_use]
    pub fn new(results: Vec<ViewedResult>) -> Self {
        debug_assert!(results.is_sorted_by(|one, next| one.flag < next.flag), "results are in order of flag");
        Self(results)
    }
}

impl ResultView for SortedResults {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn flag(&self, index: usize) -> Option<&str> {
        Some(&self.0.get(index)?.flag)
    }

    fn get(&self, index: usize) -> Option<ViewedResult> {
        self.0.get(index).cloned()
    }

    fn find(&self, flag: &str) -> Option<usize> {
        self.0.binary_search_by(|it| (*it.flag).cmp(flag)).ok()
    }
}

/// Calls the chain of evaluation plugins of one environment.
pub trait EvaluationTransform: Send + Sync {
    /// Returns whether the edits may depend on facts that differ between requests for the same results. If not, results
    /// are shared.
    fn reads_requests(&self) -> bool {
        false
    }

    /// Returns the edits for one evaluation, merged over the chain.
    fn transform<'a>(
        &'a self,
        facts: &'a EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<ResultEdits, HookFailure>>;
}

/// The edits of one evaluation. JSON texts are validated by the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultEdits {
    /// Changes by index in the view, in order, at most one per index.
    pub changes: Vec<(usize, ResultChange)>,
    /// Results of flags that were not evaluated, sorted by flag.
    pub added: Vec<ViewedResult>,
}

/// The change to one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultChange {
    /// The result is left out of the response.
    Drop,
    /// The result is sent with these properties.
    Replace(ReplacedResult),
}

/// The properties of a result that plugins have replaced; what is absent stays as evaluated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplacedResult {
    /// JSON text of the value.
    pub value: Option<Bytes>,
    /// Index of the variation.
    pub variation: Option<u32>,
    /// JSON text of the reason.
    pub reason: Option<Bytes>,
}
