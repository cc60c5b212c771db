//! Evaluated flags for client SDKs (F068 to F074).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use yardarm_core::Snapshot;
use yardarm_core::hooks::{EvaluationFacts, HookFailure, ResultChange, SortedResults, ViewedResult};
use yardarm_core::workers::SlowDrop;
use yardarm_harness_eval::evaluation::{EvaluationError, Ruleset};
use yardarm_harness_eval::model::Target;

use super::auth::Caller;
use super::configs::item;
use super::rejection::{Rejection, json_body};
use super::state::Downstream;
use super::target::{TargetView, invalid_output, target};
use crate::data::dataset::FlagData;

/// Approximate time of a comparison.
const COMPARISON: Duration = Duration::from_nanos(50);
/// Bytes of attributes that are read in about the time of a comparison.
const BYTES_PER_COMPARISON: usize = 256;

/// One evaluated flag.
#[derive(Serialize, Clone)]
struct Evaluation<'a> {
    flag: Cow<'a, str>,
    value: Cow<'a, str>,
    kind: &'a str,
    identifier: &'a str,
}

/// `GET …/evaluations`
pub(super) async fn all(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(path): Path<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return Rejection::NoData.into_response() };
    let target = match target(&downstream, &caller, &path, &headers).await {
        Ok(target) => target,
        Err(rejection) => return rejection.into_response(),
    };
    let decided = decide(&downstream, &snapshot, &target, Ruleset::decide_all).await;
    let decided = match decided {
        Ok(decided) => decided,
        Err(rejection) => return rejection.into_response(),
    };
    let ruleset = snapshot.data().ruleset();
    let entry = |(number, decision): &(usize, Result<usize, EvaluationError>)| {
        // A flag that cannot be evaluated has an empty value; others are not affected.
        let (flag, served) = ruleset.served(*number, decision.as_ref().ok().copied())?;
        let (value, identifier) = served.map_or(("", ""), |it| (it.value, it.identifier));
        Some(Evaluation { flag: (&*flag.feature).into(), value: value.into(), kind: flag.kind(), identifier })
    };
    let entries = decided.iter().filter_map(entry).collect();
    match transformed(&caller, &target, entries).await {
        Ok(entries) => json_body(line(&entries)),
        Err(failure) => Rejection::from(failure).into_response(),
    }
}

/// `GET …/evaluations/{item}`
pub(super) async fn one(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    Path(path): Path<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return Rejection::NoData.into_response() };
    let ruleset: &Ruleset = snapshot.data().ruleset();
    let target = match target(&downstream, &caller, &path, &headers).await {
        Ok(target) => target,
        Err(rejection) => return rejection.into_response(),
    };
    let feature = item(&path);
    let name = feature.to_owned();
    let decide_one = move |ruleset: &Ruleset, target: &Target| ruleset.decide_one(&name, Some(target));
    let entry = match decide(&downstream, &snapshot, &target, decide_one).await {
        Ok(Ok((number, position))) => ruleset.served(number, Some(position)).map(|(flag, served)| {
            let (value, identifier) = served.map_or(("", ""), |it| (it.value, it.identifier));
            Evaluation { flag: feature.into(), value: value.into(), kind: flag.kind(), identifier }
        }),
        // A plugin may add it.
        Ok(Err(EvaluationError::UnknownFlag)) => None,
        Ok(Err(error)) => return Rejection::Evaluation(error.to_string()).into_response(),
        Err(rejection) => return rejection.into_response(),
    };
    match transformed(&caller, &target, entry.into_iter().collect()).await {
        Ok(entries) => match entries.iter().find(|it| it.flag == feature) {
            Some(entry) => json_body(line(entry)),
            None => Rejection::UnknownFlag.into_response(),
        },
        Err(failure) => Rejection::from(failure).into_response(),
    }
}

/// Evaluates with `decide`, off this thread if it may take long.
///
/// # Errors
/// When too many evaluations are waiting.
async fn decide<T: Send + 'static>(
    downstream: &Downstream,
    snapshot: &Arc<Snapshot<FlagData>>,
    target: &Arc<SlowDrop<Target>>,
    decide: impl FnOnce(&Ruleset, &Target) -> T + Send + 'static,
) -> Result<T, Rejection> {
    let comparisons = snapshot.data().ruleset().weight().saturating_mul(1 + target.size() / BYTES_PER_COMPARISON);
    let estimate = COMPARISON.saturating_mul(u32::try_from(comparisons).unwrap_or(u32::MAX));
    let (snapshot, target) = (Arc::clone(snapshot), Arc::clone(target));
    let decided = downstream.evaluators.run(estimate, move || decide(snapshot.data().ruleset(), &target)).await;
    decided.map_err(|_| Rejection::Busy)
}

fn line(body: &impl Serialize) -> Vec<u8> {
    let mut body = serde_json::to_vec(body).expect("text is always JSON");
    body.push(b'\n');
    body
}

/// Returns the results as evaluation plugins transform them.
///
/// # Errors
/// When a plugin fails, or returns a value of another type.
async fn transformed<'a>(
    caller: &Caller,
    target: &Arc<SlowDrop<Target>>,
    mut entries: Vec<Evaluation<'a>>,
) -> Result<Vec<Evaluation<'a>>, HookFailure> {
    let hooks = caller.admitted.plan.environment(&caller.environment.label);
    let Some(transform) = &hooks.evaluation_transform else { return Ok(entries) };
    let context = Arc::new(TargetView(Arc::clone(target)));
    let facts = EvaluationFacts { request: caller.admitted.request.clone(), context };
    let edits = transform.transform(&facts, Arc::new(view(&entries))).await?;
    let mut changes: HashMap<usize, ResultChange> = edits.changes.into_iter().collect();
    let mut index = 0;
    let mut failure = None;
    entries.retain_mut(|entry| {
        let change = changes.remove(&index);
        index += 1;
        match change {
            None => true,
            Some(ResultChange::Drop) => false,
            Some(ResultChange::Replace(replaced)) => {
                match replaced.value.map(|json| as_text(entry.kind, &json)) {
                    None => (),
                    Some(Some(text)) => entry.value = text.into(),
                    Some(None) => {
                        failure = Some(invalid_output("evaluation chain"));
                    }
                }
                true
            }
        }
    });
    for result in &edits.added {
        match added(result) {
            Some(entry) => entries.push(entry),
            None => failure = Some(invalid_output("evaluation chain")),
        }
    }
    failure.map_or(Ok(entries), Err)
}

/// Returns the entry of a flag that a plugin adds, of the kind that its value has.
fn added(result: &ViewedResult) -> Option<Evaluation<'static>> {
    let kind = match serde_json::from_slice(&result.value).ok()? {
        serde_json::Value::Bool(_) => "boolean",
        serde_json::Value::Number(_) => "int",
        serde_json::Value::String(_) => "string",
        _ => "json",
    };
    let value = as_text(kind, &result.value)?.into();
    Some(Evaluation { flag: result.flag.to_string().into(), value, kind, identifier: "" })
}

/// Returns the JSON value of a text: values are sent as text for flags of any kind, and plugins see and return JSON.
fn as_json(kind: &str, text: &str) -> Bytes {
    let parsed =
        matches!(kind, "boolean" | "int" | "json").then(|| serde_json::from_str::<serde_json::Value>(text).ok());
    match parsed.flatten() {
        Some(_) => Bytes::copy_from_slice(text.as_bytes()),
        None => serde_json::to_vec(text).expect("text is always JSON").into(),
    }
}

fn as_text(kind: &str, json: &Bytes) -> Option<String> {
    if kind == "string" {
        return serde_json::from_slice(json).ok();
    }
    let text = std::str::from_utf8(json).ok()?;
    match serde_json::from_slice(json).ok()? {
        serde_json::Value::String(text) if kind != "json" => Some(text),
        _ => Some(text.to_owned()),
    }
}

/// Returns the results as plugins see them.
fn view(entries: &[Evaluation<'_>]) -> SortedResults {
    let view = |it: &Evaluation<'_>| ViewedResult {
        flag: (&*it.flag).into(),
        value: as_json(it.kind, &it.value),
        // Harness' variations have names instead of numbers, and there are no reasons.
        variation: None,
        reason: None,
    };
    SortedResults::new(entries.iter().map(view).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_for_sdks_and_json_for_plugins() {
        for (kind, text, json) in [
            ("boolean", "true", "true"),
            ("int", "011", "\"011\""),
            ("int", "1.5", "1.5"),
            ("string", "true", "\"true\""),
            ("json", r#"{"a":1}"#, r#"{"a":1}"#),
            ("json", "{broken", "\"{broken\""),
        ] {
            assert_eq!(as_json(kind, text), json, "{kind} {text}");
        }
        for (kind, json, text) in [
            ("boolean", "false", Some("false")),
            ("string", "\"x\"", Some("x")),
            ("string", "7", None),
            ("json", "\"x\"", Some("\"x\"")),
            ("int", "\"011\"", Some("011")),
        ] {
            assert_eq!(as_text(kind, &Bytes::from_static(json.as_bytes())).as_deref(), text, "{kind} {json}");
        }
    }
}
