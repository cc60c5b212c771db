//! The hook `evaluation-transform`: which results may a client-side SDK see?

use crate::bindings::evaluation_transform as generated;
use crate::bindings::host::results::ResultSet;
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Plugin, Result};

/// Edits evaluated results for SDKs that do not evaluate themselves.
///
/// Must be pure: the same input returns the same edits.
pub trait EvaluationTransform: Plugin {
    /// Returns the edits of one evaluation, at most one per flag. Other results are sent unchanged.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default the SDK receives a 503 and retries.
    fn transform_evaluation(&self, facts: &EvaluationFacts, evaluated: &dyn Results) -> Result<Vec<ResultEdit>>;
}

/// Evaluated flags that are available during one call.
pub trait Results {
    /// Returns the keys of the evaluated flags, in order; positions are the indexes of [`get`](Self::get) and of edits.
    fn flags(&self) -> Vec<String>;

    /// Returns the result at `index`; needs the grant `flag-data`.
    fn get(&self, index: u32) -> Option<Evaluation>;

    /// Returns the index of a flag.
    fn find(&self, flag: &str) -> Option<u32>;
}

/// The result of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// Key of the flag.
    pub flag: String,
    /// JSON text of the value.
    pub value: String,
    /// Index of the variation.
    pub variation: Option<u32>,
    /// JSON text of the vendor's reason, `null` where there is none.
    pub reason: String,
}

/// Facts about an evaluation besides the results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvaluationFacts {
    /// The vendor whose environment this is: `launchdarkly` or `harness`.
    pub vendor: String,
    /// Configured name of the environment.
    pub environment: String,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: String,
    /// Key of the context or target with the grant `context-key`; without it, a fingerprint of the key.
    pub context_key: String,
    /// Reserved for later releases of the host.
    pub extra: Vec<(String, String)>,
}

/// An edit of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultEdit {
    /// Leaves the flag at this index out of the response.
    Drop(u32),
    /// Sends another value.
    Replace {
        /// Index of the result.
        index: u32,
        /// JSON text of the value.
        json: Vec<u8>,
    },
}

impl ResultEdit {
    /// Leaves the flag at `index` out of the response.
    #[must_use]
    pub fn drop(index: u32) -> Self {
        Self::Drop(index)
    }

    /// Sends this JSON text as the value of the flag at `index`.
    pub fn replace(index: u32, json: impl Into<Vec<u8>>) -> Self {
        Self::Replace { index, json: json.into() }
    }
}

impl Results for ResultSet {
    fn flags(&self) -> Vec<String> {
        ResultSet::flags(self)
    }

    fn get(&self, index: u32) -> Option<Evaluation> {
        let result = ResultSet::get(self, index)?;
        Some(Evaluation { flag: result.flag, value: result.value, variation: result.variation, reason: result.reason })
    }

    fn find(&self, flag: &str) -> Option<u32> {
        ResultSet::find(self, flag)
    }
}

impl<P: EvaluationTransform + Exported> generated::Guest for Adapter<P> {
    fn transform(
        facts: generated::EvaluationFacts,
        evaluated: &ResultSet,
    ) -> Result<Vec<generated::Edit>, crate::bindings::host::types::PluginError> {
        let facts = EvaluationFacts {
            vendor: facts.vendor,
            environment: facts.environment,
            sdk: facts.sdk,
            context_key: facts.context_key,
            extra: facts.extra,
        };
        let edits = call_plugin(|plugin: &P| plugin.transform_evaluation(&facts, evaluated))?;
        Ok(edits.into_iter().map(generated::Edit::from).collect())
    }
}

impl From<ResultEdit> for generated::Edit {
    fn from(edit: ResultEdit) -> Self {
        match edit {
            ResultEdit::Drop(index) => Self { index, change: generated::Change::Drop },
            ResultEdit::Replace { index, json } => Self { index, change: generated::Change::Replace(json) },
        }
    }
}
