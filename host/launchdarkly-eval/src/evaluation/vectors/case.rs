//! The format of cases about evaluation, and the comparison of results.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::evaluation::{Audience, BigSegmentsStatus, Memberships, Request, Ruleset, evaluate_all, evaluate_some};
use crate::model::{Context, Flag, Segment};

/// One flag for one context.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    id: String,
    name: String,
    sdk_data: SdkData,
    context: Box<RawValue>,
    user: Option<Box<RawValue>>,
    flag_key: String,
    big_segments: Option<BigSegments>,
    evalx: Option<Value>,
    expect_queried_key_hashes: Option<Vec<String>>,
}

/// The data of an upstream `put`.
#[derive(Deserialize)]
pub(super) struct SdkData {
    #[serde(default)]
    flags: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    segments: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
struct BigSegments {
    status: String,
    memberships: HashMap<String, HashMap<String, bool>>,
}

/// A whole body for one request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    id: String,
    sdk_data: SdkData,
    context: Box<RawValue>,
    audience: String,
    with_reasons: bool,
    expect_body: Value,
}

/// Whole bodies for several contexts, with reasons and for servers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RandomRuns {
    id: String,
    sdk_data: SdkData,
    runs: Vec<RandomRun>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RandomRun {
    context: Box<RawValue>,
    expect_body: Value,
}

/// Several requests against the same data.
pub(super) struct Runs<'a> {
    id: &'a str,
    data: &'a SdkData,
    audience: Audience,
    with_reasons: bool,
    contexts: Vec<(&'a RawValue, &'a Value)>,
}

impl Payload {
    pub(super) fn runs(&self) -> Runs<'_> {
        let audience = match &*self.audience {
            "server" => Audience::Server,
            "mobile" => Audience::Mobile,
            "js" => Audience::Browser,
            other => panic!("{}: unknown audience {other}", self.id),
        };
        let contexts = vec![(&*self.context, &self.expect_body)];
        Runs { id: &self.id, data: &self.sdk_data, audience, with_reasons: self.with_reasons, contexts }
    }
}

impl RandomRuns {
    pub(super) fn runs(&self) -> Runs<'_> {
        let contexts = self.runs.iter().map(|run| (&*run.context, &run.expect_body)).collect();
        Runs { id: &self.id, data: &self.sdk_data, audience: Audience::Server, with_reasons: true, contexts }
    }
}

impl SdkData {
    fn ruleset(&self) -> Ruleset {
        let flags: Vec<_> = self.flags.iter().map(|(key, json)| Arc::new(Flag::parse(key, json).expect(key))).collect();
        let segments: Vec<_> =
            self.segments.iter().map(|(key, json)| Arc::new(Segment::parse(key, json).expect(key))).collect();
        Ruleset::build(None, &flags, &segments)
    }
}

/// Differences in the results of a case: for each form of the context, alone and among all flags.
pub(super) fn case_failures(case: &Case) -> Vec<String> {
    let ruleset = case.sdk_data.ruleset();
    let memberships = case.big_segments.as_ref().map(memberships);
    let mut failures = Vec::new();
    for form in [Some(&case.context), case.user.as_ref()].into_iter().flatten() {
        let context = match Context::parse(form.get().as_bytes()) {
            Ok(context) => context,
            Err(error) => {
                failures.push(format!("{} {}: context: {error}", case.id, case.name));
                continue;
            }
        };
        let request = Request {
            context: &context,
            audience: Audience::Server,
            with_reasons: true,
            memberships: memberships.as_ref(),
        };
        let (mut all, mut some) = (Vec::new(), Vec::new());
        evaluate_all(&ruleset, &request, &mut all);
        evaluate_some(&ruleset, &request, &[&case.flag_key], &mut some);
        for body in [all, some] {
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            if !same(body.get(&case.flag_key), case.evalx.as_ref()) {
                let (got, expected) = (body.get(&case.flag_key), case.evalx.as_ref());
                failures.push(format!("{} {}: got {got:?}, expected {expected:?}", case.id, case.name));
            }
        }
        if let Some(expected) = &case.expect_queried_key_hashes {
            let offered: Vec<_> = ruleset.big_segment_keys(&context).into_iter().map(Memberships::key_hash).collect();
            // Keys are collected for the whole data beforehand, so there may be more than this flag needs.
            if !expected.iter().all(|hash| offered.contains(hash)) {
                failures.push(format!("{} {}: keys {offered:?}, expected {expected:?}", case.id, case.name));
            }
        }
    }
    failures
}

/// Differences in whole bodies.
pub(super) fn body_failures(runs: &Runs<'_>) -> Vec<String> {
    let ruleset = runs.data.ruleset();
    let mut failures = Vec::new();
    for (index, (context, expected)) in runs.contexts.iter().enumerate() {
        let context = Context::parse(context.get().as_bytes()).expect(runs.id);
        let request =
            Request { context: &context, audience: runs.audience, with_reasons: runs.with_reasons, memberships: None };
        let mut body = Vec::new();
        evaluate_all(&ruleset, &request, &mut body);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let empty = serde_json::Map::new();
        let (got, wanted) = (body.as_object().unwrap_or(&empty), expected.as_object().unwrap_or(&empty));
        for key in got.keys().chain(wanted.keys().filter(|key| !got.contains_key(*key))) {
            if !same(got.get(key), wanted.get(key)) {
                failures.push(format!(
                    "{}[{index}] {key}: got {:?}, expected {:?}",
                    runs.id,
                    got.get(key),
                    wanted.get(key)
                ));
            }
        }
    }
    failures
}

fn memberships(big_segments: &BigSegments) -> Memberships {
    let status = match &*big_segments.status {
        "HEALTHY" => BigSegmentsStatus::Healthy,
        "STALE" => BigSegmentsStatus::Stale,
        "STORE_ERROR" => BigSegmentsStatus::StoreError,
        _ => BigSegmentsStatus::NotConfigured,
    };
    let mut memberships = Memberships::new(status);
    for (key, segments) in &big_segments.memberships {
        memberships.insert(key, status, segments.iter().map(|(reference, inside)| (reference.as_str(), *inside)));
    }
    memberships
}

fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => equal(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Equality of JSON values, numbers by value.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}
