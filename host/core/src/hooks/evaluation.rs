//! The evaluation hook: what does a client-side SDK get to see of its results?

use std::sync::Arc;

use bytes::Bytes;

use super::{HookFailure, HookFuture};
use crate::environment::EnvironmentLabel;

/// What a plugin may learn of an evaluation besides the results.
#[derive(Debug, Clone)]
pub struct EvaluationFacts {
    /// The environment whose flags were evaluated.
    pub environment: EnvironmentLabel,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: &'static str,
    /// Fully qualified key of the context or target.
    pub context_key: Arc<str>,
}

/// One evaluated flag, as a view hands it out.
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

/// The results of one evaluation, read piece by piece.
pub trait ResultView: Send + Sync {
    /// Number of results.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Key of the flag at `index`.
    fn flag(&self, index: usize) -> Option<&str>;

    /// The result at `index`.
    fn get(&self, index: usize) -> Option<ViewedResult>;

    /// Position of a flag.
    fn find(&self, flag: &str) -> Option<usize>;
}

/// Results that were all made beforehand, in order of flag.
#[derive(Debug)]
pub struct SortedResults(Vec<ViewedResult>);

impl SortedResults {
    /// `results` must be in order of flag, or [`ResultView::find`] does not find them.
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

/// Asks the chain of evaluation plugins of one environment.
pub trait EvaluationTransform: Send + Sync {
    /// Edits for one evaluation, merged over the chain, at most one per index.
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
    /// What happens to it.
    pub change: ResultChange,
}

/// What happens to one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultChange {
    /// Left out of the answer.
    Drop,
    /// Sent with this value, JSON text which the host has checked.
    Replace(Bytes),
}
