//! `POST /client/auth`: exchanges an API key for a token (F045 to F052).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;
use yardarm_core::Secret;
use yardarm_core::hooks::{RequestFacts, Resolution};
use yardarm_harness_eval::lenient_json;
use yardarm_harness_eval::model::Target;
use yardarm_vendor::admission::{self, Admitted, RequestParts};
use yardarm_vendor::body::collect;

use super::auth::{Caller, RouteInfo, authorize, facts};
use super::rejection::{Rejection, json_body};
use super::state::{Downstream, is_large};
use crate::environments::{HarnessEnvironment, Lookup};
use crate::identity::tokens::Subject;
use crate::identity::{KeyHash, VENDOR};

/// Largest body in bytes. Keys are small, but targets may have many attributes.
const MAX_BODY: usize = 1 << 20;

#[derive(Deserialize)]
struct AuthRequest {
    #[serde(rename = "apiKey", default)]
    key: Option<String>,
    #[serde(default)]
    target: Option<Target>,
}

pub(super) async fn exchange(
    State(downstream): State<Arc<Downstream>>,
    Extension(info): Extension<RouteInfo>,
    request: Request,
) -> Response {
    match try_exchange(&downstream, info, request).await {
        Ok((token, admitted)) => {
            let mut response = json_body(format!("{}\n", json!({ "authToken": token })));
            admitted.add_headers(response.headers_mut());
            response
        }
        Err(rejection) => rejection.into_response(),
    }
}

async fn try_exchange(
    downstream: &Arc<Downstream>,
    info: RouteInfo,
    request: Request,
) -> Result<(String, Admitted), Rejection> {
    let (parts, body) = request.into_parts();
    // Large bodies are charged, so that together they stay within a bound of memory; small bodies are not, so that large
    // ones cannot block them. The charge is held until the target has been stored.
    let mut charge = None;
    let grants = |length| !is_large(length) || downstream.auth_bodies.cover(&mut charge, length);
    let body = collect(body, MAX_BODY, grants).await?;
    let is_large = charge.is_some();
    let validates = downstream.config.validate_targets;
    let (key, target) = downstream.work(is_large, move || read(&body, validates)).await??;
    // Client SDKs present a target, server SDKs do not.
    let info = RouteInfo { sdk: if target.is_some() { "client" } else { info.sdk }, ..info };
    let (caller, hash) = match admit(downstream, info, &parts, &key).await {
        Ok(admitted) => admitted,
        Err(rejection) => {
            if is_large {
                downstream.readers.discard((target, charge));
            }
            return Err(rejection);
        }
    };
    if let Some(target) = target {
        let (state, environment) = (Arc::clone(downstream), Arc::clone(&caller.environment));
        downstream.work(is_large, move || remember_target(&state, &environment, &key, &target)).await?;
    }
    let identity = &caller.environment.identity;
    let subject = Subject {
        environment: &identity.id,
        environment_identifier: &identity.environment,
        account: &identity.account,
    };
    let signing = caller.environment.signing.as_ref();
    let token = downstream.tokens.issue(signing, &hash, subject).ok_or(Rejection::NotReady)?;
    Ok((token, caller.admitted))
}

/// Admits a caller who presents `key`; returns the key that its token is for.
async fn admit(
    downstream: &Downstream,
    info: RouteInfo,
    parts: &Parts,
    key: &Secret,
) -> Result<(Caller, KeyHash), Rejection> {
    let parts = RequestParts { method: &parts.method, headers: &parts.headers, extensions: &parts.extensions };
    let plan = downstream.hooks.pin();
    let facts = |label| facts(label, info, &parts, Some(key.clone()));
    let chosen = admission::resolve(&*plan, VENDOR, &facts).await?;
    let found = find(downstream, key, chosen.as_ref());
    if matches!(found, Err(Rejection::UnknownKey)) {
        admission::log_unknown_credential(info.id.as_str(), || key.expose().to_owned());
    }
    let (environment, hash) = found?;
    let is_delegated = chosen.is_some_and(|it| it.is_delegated);
    let facts = RequestFacts { is_delegated, ..facts(environment.label.clone()) };
    let caller = authorize(plan, environment, facts).await?;
    Ok((caller, hash))
}

/// Finds the environment of a key, unless plugins have chosen another.
pub(super) fn find(
    downstream: &Downstream,
    key: &Secret,
    chosen: Option<&Resolution>,
) -> Result<(Arc<HarnessEnvironment>, KeyHash), Rejection> {
    let environments = &downstream.environments;
    let hash = KeyHash::of(key.expose());
    if let Some(chosen) = chosen.filter(|it| it.is_delegated) {
        let found = environments.by_name(&chosen.environment);
        let environment = found.ok_or_else(|| admission::no_such_environment(chosen))?;
        // A token belongs to a key, and ends with it.
        let own = environments.keys_of(&environment).into_iter().next().ok_or(Rejection::NotReady)?;
        return Ok((environment, own));
    }
    match environments.by_key(&hash) {
        Lookup::Found(environment) if chosen.is_none_or(|it| it.environment == *environment.label.name()) => {
            Ok((environment, hash))
        }
        Lookup::NotYet => Err(Rejection::NotReady),
        Lookup::Found(_) | Lookup::Unknown => Err(Rejection::UnknownKey),
    }
}

/// Remembers the target of an admitted caller, and queues its registration.
fn remember_target(downstream: &Downstream, environment: &HarnessEnvironment, key: &Secret, target: &Target) {
    if let Some(problem) = defect(target)
        && !environment.has_unusual_targets.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(
            environment = %environment.label, problem,
            "targets are accepted that Harness itself rejects, so it may not list them; this is logged once. \
             `harness.validate_targets` rejects them"
        );
    }
    if downstream.config.forwards_targets() {
        downstream.registrar.register(&environment.identity.id, key, target);
    }
    if let Some(shared) = &downstream.shared {
        shared.targets().share(&environment.identity.id, target);
    }
    environment.targets.remember(target);
}

fn read(body: &[u8], validates: bool) -> Result<(Secret, Option<Target>), Rejection> {
    if body.is_empty() {
        return Err(Rejection::Bad("request body cannot be empty".to_owned()));
    }
    let body: AuthRequest = lenient_json::from_slice(body).map_err(|error| Rejection::Bad(error.to_string()))?;
    let key =
        body.key.filter(|it| !it.is_empty()).ok_or_else(|| Rejection::Bad("apiKey cannot be empty".to_owned()))?;
    let target = body.target.filter(|it| !it.identifier.is_empty() || !it.name.is_empty()).map(|mut target| {
        if target.name.is_empty() {
            target.name.clone_from(&target.identifier);
        }
        target
    });
    if let Some(problem) = target.as_ref().filter(|_| validates).and_then(defect) {
        return Err(Rejection::Bad(problem.to_owned()));
    }
    // A target without an identifier could not be found again.
    Ok((key.into(), target.filter(|it| !it.identifier.is_empty())))
}

/// Returns the reason why Harness itself, and version 2 of its relay, reject a target. Version 1 accepts all.
fn defect(target: &Target) -> Option<&'static str> {
    if !target.identifier.chars().all(|it| it.is_ascii_alphanumeric() || ".@_-".contains(it)) {
        return Some("target identifier is invalid");
    }
    let is_valid = |it: char| it.is_alphabetic() && !it.is_numeric() || it.is_ascii_digit() || " .@_-".contains(it);
    (!target.name.chars().all(is_valid)).then_some("target name is invalid")
}

#[cfg(fuzzing)]
pub(super) fn fuzz(body: &[u8]) {
    let _ = read(body, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> Option<String> {
        read(body.as_bytes(), true).err().map(|it| it.to_string())
    }

    #[test]
    fn bodies_are_checked_in_order() {
        // F049, F050
        for (body, expected) in [
            ("", Some("bad request: request body cannot be empty")),
            ("{}", Some("bad request: apiKey cannot be empty")),
            (r#"{"apiKey":""}"#, Some("bad request: apiKey cannot be empty")),
            (r#"{"apiKey":"k","target":{"identifier":"a b"}}"#, Some("bad request: target identifier is invalid")),
            (r#"{"apiKey":"k","target":{"identifier":"a/b"}}"#, Some("bad request: target identifier is invalid")),
            (r#"{"apiKey":"k","target":{"identifier":"ä"}}"#, Some("bad request: target identifier is invalid")),
            (r#"{"apiKey":"k","target":{"identifier":"a","name":"a/b"}}"#, Some("bad request: target name is invalid")),
            (r#"{"apiKey":"k","target":{"identifier":"a","name":"²"}}"#, Some("bad request: target name is invalid")),
            (r#"{"apiKey":"k","target":{"identifier":"a@b.c_d-1","name":"Zoë Ünal 2 .@_-"}}"#, None),
            (r#"{"apiKey":"k","target":{"identifier":"","name":""}}"#, None),
            (r#"{"apiKey":"k","target":null}"#, None),
            (r#"{"apiKey":"k","new":1}"#, None),
        ] {
            assert_eq!(problem(body).as_deref(), expected, "{body}");
        }
        for body in ["{", "[]", "7", r#"{"apiKey":7}"#, r#"{"apiKey":"k","target":7}"#] {
            assert!(problem(body).is_some_and(|it| it.starts_with("bad request: ")), "{body}");
        }
    }

    #[test]
    fn a_target_without_a_name_is_named_by_its_identifier() {
        let body = br#"{"apiKey":"k","target":{"identifier":"ada","attributes":{"x":1}}}"#;
        let (_, target) = read(body, true).unwrap();
        let target = target.unwrap();
        assert_eq!((target.name.as_str(), target.attributes["x"].as_i64()), ("ada", Some(1)));
    }
}
