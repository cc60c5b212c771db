//! What a client-side SDK asks, and what plugins make of the results: shared by those that poll and those that listen.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{
    EvaluationFacts, EvaluationTransform, HookFailure, ResultChange, SortedResults, ViewedResult,
};

use crate::environments::SdkKind;
use crate::evaluation::{Audience, Memberships, Request, Ruleset, evaluate_each};
use crate::model::Context;
use crate::store::EnvironmentStore;

/// Whose flags are asked for, by what kind of caller, and whether with reasons.
pub(crate) struct Question {
    pub(crate) context: Context,
    pub(crate) kind: SdkKind,
    pub(crate) with_reasons: bool,
    /// Which Big Segments the context is in, as far as flags ask; `None` where nobody knows.
    pub(crate) memberships: Option<Memberships>,
}

/// What plugins want done to results, by their place in the order of keys.
#[derive(Default)]
pub(crate) struct Edits(HashMap<usize, ResultChange>);

/// What a client gets to see of a result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown<'a> {
    Hidden,
    AsEvaluated,
    With(&'a [u8]),
}

impl Question {
    /// What evaluation is asked. The only place that builds such a request for SDKs.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            context: &self.context,
            audience: match self.kind {
                SdkKind::Server => Audience::Server,
                SdkKind::Mobile => Audience::Mobile,
                SdkKind::Browser => Audience::Browser,
            },
            with_reasons: self.with_reasons,
            memberships: self.memberships.as_ref(),
        }
    }

    /// Looks up what flags ask of the database, because evaluation itself waits for nothing. A second at most.
    pub(crate) async fn look_up(&mut self, store: Option<&EnvironmentStore>, ruleset: &Ruleset) {
        self.memberships = match store {
            Some(store) if ruleset.has_big_segments() => {
                Some(store.big_segments.memberships(&ruleset.big_segment_keys(&self.context)).await)
            }
            _ => None,
        };
    }

    /// The same for two questions exactly if they have the same answer whatever the flags are.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut text = Vec::new();
        self.context.write_json(&mut text);
        let mut hash = Sha256::new();
        hash.update([self.kind as u8, u8::from(self.with_reasons)]);
        hash.update(text.len().to_le_bytes());
        hash.update(&text);
        // Not written, because the new format has no such thing, but it decides about rollouts.
        for secondary in self.context.parts().iter().map(|it| it.secondary()) {
            hash.update([u8::from(secondary.is_some())]);
            hash.update(secondary.map_or(0, str::len).to_le_bytes());
            hash.update(secondary.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

impl Edits {
    /// Asks the chain about all results.
    ///
    /// # Errors
    /// When a plugin that is needed could not decide.
    pub(crate) async fn ask(
        transform: &dyn EvaluationTransform,
        environment: &EnvironmentLabel,
        ruleset: &Ruleset,
        question: &Question,
    ) -> Result<Self, HookFailure> {
        let facts = EvaluationFacts {
            environment: environment.clone(),
            sdk: question.kind.as_str(),
            context_key: question.context.canonical_key().into(),
        };
        let edits = transform.transform(&facts, Arc::new(view(ruleset, &question.request()))).await?;
        Ok(Self(edits.into_iter().map(|edit| (edit.index, edit.change)).collect()))
    }

    /// What becomes of the result at `index`.
    pub(crate) fn at(&self, index: usize) -> Shown<'_> {
        match self.0.get(&index) {
            None => Shown::AsEvaluated,
            Some(ResultChange::Drop) => Shown::Hidden,
            Some(ResultChange::Replace(value)) => Shown::With(value),
        }
    }
}

/// Results as plugins see them.
fn view(ruleset: &Ruleset, request: &Request<'_>) -> SortedResults {
    let mut all = Vec::new();
    evaluate_each(ruleset, request, &mut |evaluated| {
        let mut reason = Vec::new();
        evaluated.write_reason(&mut reason);
        all.push(ViewedResult {
            flag: Arc::clone(evaluated.item_key()),
            value: Bytes::copy_from_slice(evaluated.value()),
            variation: evaluated.variation().and_then(|it| u32::try_from(it).ok()),
            reason: reason.into(),
        });
    });
    SortedResults::new(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(context: &str, kind: SdkKind, with_reasons: bool) -> [u8; 32] {
        Question { context: Context::parse(context.as_bytes()).expect(context), kind, with_reasons, memberships: None }
            .fingerprint()
    }

    #[test]
    fn questions_with_one_answer_have_one_fingerprint() {
        let ada = r#"{"kind":"user","key":"ada","plan":"gold"}"#;
        let asked = fingerprint(ada, SdkKind::Mobile, false);
        for (context, same) in [
            (r#"{ "plan":"gold", "key":"ada", "kind":"user" }"#, true),
            (r#"{"key":"ada","custom":{"plan":"gold"}}"#, true),
            (r#"{"key":"ada","custom":{"plan":"gold"},"secondary":"x"}"#, false),
            (r#"{"kind":"user","key":"ada","plan":"silver"}"#, false),
            (r#"{"kind":"user","key":"eve","plan":"gold"}"#, false),
            (r#"{"kind":"org","key":"ada","plan":"gold"}"#, false),
        ] {
            assert_eq!(fingerprint(context, SdkKind::Mobile, false) == asked, same, "{context}");
        }
        assert_ne!(fingerprint(ada, SdkKind::Browser, false), asked);
        assert_ne!(fingerprint(ada, SdkKind::Mobile, true), asked);
    }
}
