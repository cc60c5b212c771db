//! The evaluation hook: which results may a client-side SDK see?

use std::sync::Arc;

use bytes::Bytes;

use super::{HookFailure, HookFuture};
use crate::label::EnvironmentLabel;

/// Facts about an evaluation that plugins may read besides the results.
#[derive(Debug, Clone)]
pub struct EvaluationFacts {
    /// The environment whose flags were evaluated.
    pub environment: EnvironmentLabel,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: &'static str,
    /// Fully qualified key of the context or target.
    pub context_key: Arc<str>,
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
    /// JSON text of the reason.
    pub reason: Bytes,
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
    /// Returns the edits for one evaluation, merged over the chain, at most one per index.
    fn transform<'a>(
        &'a self,
        facts: &'a EvaluationFacts,
        view: Arc<dyn ResultView>,
    ) -> HookFuture<'a, Result<Vec<ResultEdit>, HookFailure>>;
}

/// One edit of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultEdit {
    /// Index in the view.
    pub index: usize,
    /// The change to the result.
    pub change: ResultChange,
}

/// The change to one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultChange {
    /// The result is left out of the response.
    Drop,
    /// The result is sent with this value, JSON text that the host has validated.
    Replace(Bytes),
}
