//! Responses of the fake, by request.

use std::collections::HashMap;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, CONTENT_TYPE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::route::Route;
use super::token::{Holder, environment_claims};
use super::{Cloud, Environment, FakeHarness, page};
use crate::launchdarkly::Recorded;

pub(super) async fn answer(State(cloud): State<FakeHarness>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let raw_body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let recorded = Recorded {
        at: Instant::now(),
        method: parts.method.clone(),
        path: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        headers: parts.headers.clone(),
        raw_body,
    };
    let (scripted, delay) = {
        let mut cloud = cloud.lock();
        cloud.requests.push(recorded.clone());
        // A preflight is sent by the browser itself and does not consume the script.
        let scripted = (parts.method != Method::OPTIONS).then(|| cloud.script.next(parts.uri.path())).flatten();
        (scripted, cloud.script.delay(parts.uri.path()))
    };
    tokio::time::sleep(delay).await;
    let mut response = match scripted {
        Some(answer) => answer.into_response(),
        None if parts.method == Method::OPTIONS => preflight(&parts.headers),
        None => cloud.lock().answer(&parts.uri, &recorded),
    };
    // Pages of any origin may send requests, and must be able to read errors.
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

impl Cloud {
    fn answer(&mut self, uri: &Uri, request: &Recorded) -> Response {
        if self.is_down {
            return error(StatusCode::SERVICE_UNAVAILABLE, "down");
        }
        let Some(route) = Route::of(&request.method, uri.path()) else {
            return error(StatusCode::NOT_FOUND, "no such path");
        };
        let query = Query::<HashMap<String, String>>::try_from_uri(uri).map(|it| it.0).unwrap_or_default();
        let holder = self.tokens.holder(request.header(AUTHORIZATION.as_str())).cloned();
        let body = || serde_json::from_slice::<Value>(&request.body()).unwrap_or_default();
        match route {
            Route::Auth => self.authenticates(&body()),
            Route::ApiKeys => self.lists(request, &query, "apiKeys", |it| &it.listed_keys),
            Route::Targets => self.lists(request, &query, "targets", |it| &it.targets),
            Route::ProxyAuth => self.authenticates_proxy(&body()),
            Route::ProxyConfig => {
                let key = query.get("key").map_or("", String::as_str);
                let only = query.get("environment").map(String::as_str);
                self.config(holder.as_ref(), key, only, number(&query, "pageNumber", 0))
            }
            Route::Stream { id } => self.opens(id.as_deref(), holder.as_ref(), request.header("api-key")),
            Route::Flags { id, flag } => self
                .reads(&id, holder.as_ref(), |environment| one_or_all(&environment.flags, "feature", flag.as_deref())),
            Route::Segments { id, segment } => self.reads(&id, holder.as_ref(), |environment| {
                let is_v2 = query.get("rules").is_some_and(|it| it == "v2");
                let segments: Vec<_> = environment.segments.iter().map(|it| with_rules(it, is_v2)).collect();
                one_or_all(&segments, "identifier", segment.as_deref())
            }),
            Route::Evaluations { id, target, flag } => self.reads(&id, holder.as_ref(), |environment| {
                one_or_all(&environment.results(&target), "flag", flag.as_deref())
            }),
            // The metrics are in the record.
            Route::Metrics { id } => self.reads(&id, holder.as_ref(), |_| json(&json!({}))),
        }
    }

    fn authenticates(&mut self, body: &Value) -> Response {
        let Some(key) = body["apiKey"].as_str() else { return error(StatusCode::BAD_REQUEST, "no apiKey") };
        let environment = self.keys.get(key).and_then(|id| self.environments.get_key_value(id));
        let Some((id, environment)) = environment else {
            return error(StatusCode::UNAUTHORIZED, "unknown API key");
        };
        let target = &body["target"];
        if target["identifier"].as_str().is_some_and(|it| !it.is_empty()) {
            self.registered.push((key.to_owned(), target.clone()));
        }
        let claims = environment_claims(id, &environment.identifier);
        let token = self.tokens.issue(key, Holder::Environment(id.clone()), claims);
        json(&json!({"authToken": token}))
    }

    fn reads(&self, id: &str, holder: Option<&Holder>, answer: impl FnOnce(&Environment) -> Response) -> Response {
        let may_read = match holder {
            Some(Holder::Environment(own)) => own == id,
            Some(Holder::Proxy(key)) => self.proxies_of(id).contains(key),
            None => false,
        };
        match self.environments.get(id).filter(|_| may_read) {
            Some(environment) => answer(environment),
            None => error(StatusCode::UNAUTHORIZED, "not your environment"),
        }
    }

    /// Answers a list request of the admin service.
    fn lists(
        &self,
        request: &Recorded,
        query: &HashMap<String, String>,
        name: &str,
        list: impl Fn(&Environment) -> &Vec<Value>,
    ) -> Response {
        if request.header("x-api-key") != Some(FakeHarness::ADMIN_TOKEN) {
            return error(StatusCode::FORBIDDEN, "not an administrator");
        }
        for name in ["accountIdentifier", "orgIdentifier", "projectIdentifier"] {
            if query.get(name).is_none_or(String::is_empty) {
                return error(StatusCode::BAD_REQUEST, &format!("no {name}"));
            }
        }
        let identifier = query.get("environmentIdentifier");
        let Some(environment) = self.environments.values().find(|it| Some(&it.identifier) == identifier) else {
            return error(StatusCode::NOT_FOUND, "no such environment");
        };
        let size = number(query, "pageSize", 30).min(self.page_limit);
        let (items, mut answer) = page(list(environment), number(query, "pageNumber", 0), size);
        if !items.is_empty() || !self.ends_without_list {
            answer.insert(name.to_owned(), items.into());
        }
        json(&Value::Object(answer))
    }
}

impl Environment {
    fn results(&self, target: &str) -> Vec<Value> {
        let named = |(flag, result): (&String, &Value)| {
            let mut result = result.clone();
            result["flag"] = flag.as_str().into();
            result
        };
        self.evaluations.get(target).into_iter().flatten().map(named).collect()
    }
}

pub(super) fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json; charset=UTF-8")], value.to_string()).into_response()
}

/// Builds the vendor's error object.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    let body = json(&json!({"code": status.as_u16().to_string(), "message": message}));
    (status, body).into_response()
}

fn preflight(headers: &HeaderMap) -> Response {
    let requested = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    if let Some(requested) = requested {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, requested);
    }
    response
}

fn one_or_all(all: &[Value], key: &str, one: Option<&str>) -> Response {
    match one {
        None => json(&Value::from(all)),
        Some(one) => match all.iter().find(|it| it[key] == one) {
            Some(item) => json(item),
            None => error(StatusCode::NOT_FOUND, "no such item"),
        },
    }
}

/// Returns a segment with the rules of one generation only, as sent by the vendor.
fn with_rules(segment: &Value, is_v2: bool) -> Value {
    let mut segment = segment.clone();
    let has_v2 = segment["servingRules"].as_array().is_some_and(|it| !it.is_empty());
    if let Some(properties) = segment.as_object_mut() {
        match (is_v2, has_v2) {
            (true, true) => drop(properties.remove("rules")),
            (true, false) => (),
            (false, _) => drop(properties.remove("servingRules")),
        }
    }
    segment
}

fn number(query: &HashMap<String, String>, name: &str, otherwise: usize) -> usize {
    query.get(name).and_then(|it| it.parse().ok()).unwrap_or(otherwise)
}
