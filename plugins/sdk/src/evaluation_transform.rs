//! The hook `evaluation-transform`: which results may a client-side SDK see?

use crate::bindings::evaluation_transform as generated;
use crate::bindings::host::results::ResultSet;
use crate::bindings::host::{context, request, types};
use crate::export::{Adapter, Exported, call_plugin};
use crate::{Context, Plugin, Request, Result};

/// Edits evaluated results for SDKs that do not evaluate themselves.
///
/// Must be pure: the same input returns the same edits.
pub trait EvaluationTransform: Plugin {
    /// Returns the edits of one evaluation, at most one per flag. Other results are sent unchanged.
    ///
    /// # Errors
    ///
    /// The binding's failure policy applies; by default the SDK receives a 503 and retries.
    fn transform_evaluation(
        &self,
        request: &dyn Request,
        context: &dyn Context,
        evaluated: &dyn Results,
    ) -> Result<Vec<ResultEdit>>;
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
    /// Index of the variation. LaunchDarkly only.
    pub variation: Option<u32>,
    /// JSON text of the vendor's reason. LaunchDarkly only.
    pub reason: Option<String>,
}

/// An edit of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultEdit {
    /// Leaves the flag at this index out of the response.
    Drop(u32),
    /// Sends other properties of a result; what is absent stays as evaluated.
    Replace {
        /// Index of the result.
        index: u32,
        /// JSON text of the value.
        value: Option<Vec<u8>>,
        /// Index of the variation.
        variation: Option<u32>,
        /// JSON text of the reason.
        reason: Option<Vec<u8>>,
    },
    /// Sends a flag that was not evaluated.
    Add {
        /// Key of the flag, which is not among the results.
        flag: String,
        /// JSON text of the value.
        value: Vec<u8>,
        /// Index of the variation.
        variation: Option<u32>,
        /// JSON text of the reason.
        reason: Option<Vec<u8>>,
    },
}

impl ResultEdit {
    /// Leaves the flag at `index` out of the response.
    #[must_use]
    pub fn drop(index: u32) -> Self {
        Self::Drop(index)
    }

    /// Sends this JSON text as the value of the flag at `index`.
    pub fn replace(index: u32, value: impl Into<Vec<u8>>) -> Self {
        Self::Replace { index, value: Some(value.into()), variation: None, reason: None }
    }

    /// Sends a flag that was not evaluated, with this JSON text as its value.
    pub fn add(flag: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Add { flag: flag.into(), value: value.into(), variation: None, reason: None }
    }

    /// Sets the index of the variation; does nothing to [`ResultEdit::Drop`].
    #[must_use]
    pub fn variation(mut self, index: u32) -> Self {
        if let Self::Replace { variation, .. } | Self::Add { variation, .. } = &mut self {
            *variation = Some(index);
        }
        self
    }

    /// Sets the JSON text of the reason; does nothing to [`ResultEdit::Drop`].
    #[must_use]
    pub fn reason(mut self, json: impl Into<Vec<u8>>) -> Self {
        if let Self::Replace { reason, .. } | Self::Add { reason, .. } = &mut self {
            *reason = Some(json.into());
        }
        self
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
        request: request::Request,
        context: context::Context,
        evaluated: ResultSet,
    ) -> Result<Vec<generated::Edit>, types::PluginError> {
        let edits = call_plugin(|plugin: &P| plugin.transform_evaluation(&request, &context, &evaluated))?;
        Ok(edits.into_iter().map(generated::Edit::from).collect())
    }
}

impl From<ResultEdit> for generated::Edit {
    fn from(edit: ResultEdit) -> Self {
        match edit {
            ResultEdit::Drop(index) => Self::Drop(index),
            ResultEdit::Replace { index, value, variation, reason } => {
                Self::Replace(generated::Replacement { index, value, variation, reason })
            }
            ResultEdit::Add { flag, value, variation, reason } => {
                Self::Add(generated::Addition { flag, value, variation, reason })
            }
        }
    }
}
