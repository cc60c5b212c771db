//! Evaluation requests of client-side SDKs and edits of results by plugins, for polls and streams.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use yardarm_core::evaluators::EvaluatorError;
use yardarm_core::hooks::{
    AdmittedRequest, EvaluationFacts, EvaluationTransform, HookFailure, ReplacedResult, ResultChange, ResultEdits,
    SortedResults, ViewedResult,
};
use yardarm_core::{Evaluators, Snapshot};
use yardarm_launchdarkly_eval::evaluation::{
    Audience, HashedKey, Memberships, Replaced, Request, Ruleset, estimate_hashes, evaluate_each,
};

use super::client_context::ClientContext;
use super::result_format::ResultFormat;
use crate::data::FlagData;
use crate::identity::SdkKind;
use crate::store::EnvironmentStore;

/// The context that flags are evaluated for, the kind of SDK, and whether reasons are wanted. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EvaluationRequest {
    /// The request, as plugins see it.
    pub(crate) request: AdmittedRequest,
    pub(crate) context: Arc<ClientContext>,
    /// Identity of the plugins that have added attributes to the context; 0 without any.
    pub(crate) enrichment: u64,
    pub(crate) kind: SdkKind,
    pub(crate) with_reasons: bool,
    pub(crate) format: ResultFormat,
    /// The Big Segments of the context that flags refer to; `None` without a lookup.
    pub(crate) memberships: Option<Arc<Memberships>>,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvaluationError {
    #[error(transparent)]
    Plugin(#[from] HookFailure),
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
}

/// Edits of results by plugins.
#[derive(Default)]
pub(crate) struct Edits {
    /// By index in the order of keys.
    changes: HashMap<usize, ResultChange>,
    added: Vec<ViewedResult>,
}

/// A result that plugins add.
pub(crate) struct AddedResult<'a>(&'a ViewedResult);

/// How a client receives a result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Visibility<'a> {
    Hidden,
    /// With what plugins have replaced.
    Shown(Replaced<'a>),
}

impl EvaluationRequest {
    /// The request for the evaluator. The only place that builds one for SDKs.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            context: &self.context,
            audience: match self.kind {
                SdkKind::Server => Audience::Server,
                SdkKind::Mobile => Audience::Mobile,
                SdkKind::Browser => Audience::Browser,
            },
            with_reasons: self.with_reasons,
            memberships: self.memberships.as_deref(),
        }
    }

    /// Looks up the memberships that flags refer to, because evaluation itself does no I/O. Takes a second at most.
    ///
    /// # Errors
    /// When keys could not be hashed for the database, which takes time if they are long.
    pub(crate) async fn look_up(
        &mut self,
        store: Option<&EnvironmentStore>,
        snapshot: &Arc<Snapshot<FlagData>>,
        evaluators: &Evaluators,
    ) -> Result<(), EvaluatorError> {
        self.memberships = match store.and_then(|it| it.big_segments.as_ref()) {
            Some(big_segments) if snapshot.data().ruleset().has_big_segments() => {
                let (context, snapshot) = (Arc::clone(&self.context), Arc::clone(snapshot));
                let hash = move || -> Vec<HashedKey> {
                    snapshot.data().ruleset().big_segment_keys(&context).into_iter().map(HashedKey::from).collect()
                };
                let keys = evaluators.run(estimate_hashes(&self.context), hash).await?;
                Some(big_segments.memberships(&keys).await.into())
            }
            _ => None,
        };
        Ok(())
    }

    /// Evaluates with `work`, off this thread if that may take long.
    ///
    /// # Errors
    /// When too many evaluations are queued, or when this one failed.
    pub(crate) async fn answer<T: Send + 'static>(
        &self,
        snapshot: &Arc<Snapshot<FlagData>>,
        evaluators: &Evaluators,
        work: impl FnOnce(&Ruleset, &Self) -> T + Send + 'static,
    ) -> Result<T, EvaluatorError> {
        let estimate = snapshot.data().ruleset().estimate(&self.context);
        let (evaluation_request, snapshot) = (self.clone(), Arc::clone(snapshot));
        evaluators.run(estimate, move || work(snapshot.data().ruleset(), &evaluation_request)).await
    }

    /// A digest that is equal for two requests exactly if their results are equal for any flags.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut text = Vec::new();
        self.context.write_json(&mut text);
        let mut hash = Sha256::new();
        hash.update([self.kind as u8, u8::from(self.with_reasons), self.format as u8]);
        hash.update(self.enrichment.to_le_bytes());
        hash.update(text.len().to_le_bytes());
        hash.update(&text);
        // Not part of the new format, but rollouts depend on it.
        for secondary in self.context.secondaries() {
            hash.update([u8::from(secondary.is_some())]);
            hash.update(secondary.map_or(0, str::len).to_le_bytes());
            hash.update(secondary.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

impl Edits {
    /// Calls the chain of plugins with all results and returns their edits.
    ///
    /// # Errors
    /// When a required plugin failed, or when the evaluation failed.
    pub(crate) async fn of_plugins(
        transform: &dyn EvaluationTransform,
        snapshot: &Arc<Snapshot<FlagData>>,
        evaluation_request: &EvaluationRequest,
        evaluators: &Evaluators,
    ) -> Result<Self, EvaluationError> {
        let facts = EvaluationFacts {
            request: evaluation_request.request.clone(),
            context: Arc::clone(&evaluation_request.context) as _,
        };
        let results = evaluation_request
            .answer(snapshot, evaluators, |ruleset, it| viewed_results(ruleset, &it.request()))
            .await?;
        let ResultEdits { changes, added } = transform.transform(&facts, Arc::new(results)).await?;
        let changes = changes.into_iter().map(|(index, change)| (index, on_one_line(change))).collect();
        Ok(Self { changes, added: added.into_iter().map(added_on_one_line).collect() })
    }

    /// How a client receives the result at `index`.
    pub(crate) fn at(&self, index: usize) -> Visibility<'_> {
        match self.changes.get(&index) {
            None => Visibility::Shown(Replaced::default()),
            Some(ResultChange::Drop) => Visibility::Hidden,
            Some(ResultChange::Replace(ReplacedResult { value, variation, reason })) => Visibility::Shown(Replaced {
                value: value.as_deref(),
                variation: *variation,
                reason: reason.as_deref(),
            }),
        }
    }

    /// Whether plugins add results.
    pub(crate) fn has_added(&self) -> bool {
        !self.added.is_empty()
    }

    /// The results that plugins add.
    pub(crate) fn added(&self) -> impl Iterator<Item = AddedResult<'_>> {
        self.added.iter().map(AddedResult)
    }
}

impl AddedResult<'_> {
    /// Name of the flag.
    pub(crate) fn key(&self) -> &str {
        &self.0.flag
    }

    /// Writes the result as an object.
    pub(crate) fn write_object(&self, with_reasons: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"value":"#);
        out.extend_from_slice(&self.0.value);
        if let Some(variation) = self.0.variation {
            out.extend_from_slice(format!(",\"variation\":{variation}").as_bytes());
        }
        if let Some(reason) = self.0.reason.as_ref().filter(|_| with_reasons) {
            out.extend_from_slice(br#","reason":"#);
            out.extend_from_slice(reason);
        }
        out.push(b'}');
    }
}

/// The change with texts on one line each, as streams require.
fn on_one_line(change: ResultChange) -> ResultChange {
    match change {
        ResultChange::Drop => ResultChange::Drop,
        ResultChange::Replace(it) => ResultChange::Replace(ReplacedResult {
            value: it.value.map(line),
            reason: it.reason.map(line),
            variation: it.variation,
        }),
    }
}

fn added_on_one_line(result: ViewedResult) -> ViewedResult {
    ViewedResult { value: line(result.value), reason: result.reason.map(line), ..result }
}

/// In JSON, line breaks are never part of a string.
fn line(text: Bytes) -> Bytes {
    if text.iter().any(|it| matches!(it, b'\n' | b'\r')) {
        text.iter().map(|it| if matches!(it, b'\n' | b'\r') { b' ' } else { *it }).collect()
    } else {
        text
    }
}

/// Results in the form for plugins.
fn viewed_results(ruleset: &Ruleset, request: &Request<'_>) -> SortedResults {
    let mut all = Vec::new();
    evaluate_each(ruleset, request, &mut |evaluated| {
        let mut reason = Vec::new();
        evaluated.write_reason(&mut reason);
        all.push(ViewedResult {
            flag: Arc::clone(evaluated.item_key()),
            value: Bytes::copy_from_slice(evaluated.value()),
            variation: evaluated.variation().and_then(|it| u32::try_from(it).ok()),
            reason: Some(reason.into()),
        });
    });
    SortedResults::new(all)
}

#[cfg(test)]
mod tests {
    use yardarm_core::EnvironmentLabel;
    use yardarm_core::hooks::RequestFacts;
    use yardarm_launchdarkly_eval::model::Context;

    use super::*;

    fn fingerprint(context: &str, kind: SdkKind, with_reasons: bool) -> [u8; 32] {
        let context = Context::parse(context.as_bytes()).expect(context);
        let request = RequestFacts::new(EnvironmentLabel::new("v", "e"), "client.evaluate", kind.as_str()).into();
        let context = Arc::new(context.into());
        let format = ResultFormat::Evalx;
        EvaluationRequest { request, context, enrichment: 0, kind, with_reasons, format, memberships: None }
            .fingerprint()
    }

    #[test]
    fn requests_with_equal_results_have_equal_fingerprints() {
        let ada = r#"{"kind":"user","key":"ada","plan":"gold"}"#;
        let expected = fingerprint(ada, SdkKind::Mobile, false);
        for (context, same) in [
            (r#"{ "plan":"gold", "key":"ada", "kind":"user" }"#, true),
            (r#"{"key":"ada","custom":{"plan":"gold"}}"#, true),
            (r#"{"key":"ada","custom":{"plan":"gold"},"secondary":"x"}"#, false),
            (r#"{"kind":"user","key":"ada","plan":"silver"}"#, false),
            (r#"{"kind":"user","key":"eve","plan":"gold"}"#, false),
            (r#"{"kind":"org","key":"ada","plan":"gold"}"#, false),
        ] {
            assert_eq!(fingerprint(context, SdkKind::Mobile, false) == expected, same, "{context}");
        }
        assert_ne!(fingerprint(ada, SdkKind::Browser, false), expected);
        assert_ne!(fingerprint(ada, SdkKind::Mobile, true), expected);
    }
}
