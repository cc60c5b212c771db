//! What a case gives to a plugin besides the input of the call, and the requests that it expects.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::HeaderValues;
use super::reply::Difference;
use crate::services::PluginServices;
use crate::services::http::{HttpAccess, HttpResponse, SentRequest};
use crate::services::secrets::Redactor;

/// What a plugin finds when it is called. The same on a fresh and on a reused instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseServices {
    /// Wall-clock time in Unix milliseconds; the real one if absent.
    pub now_ms: Option<u64>,
    /// Stored values by key.
    pub kv: BTreeMap<String, String>,
    /// What the background task of the plugin published, by key.
    pub shared: BTreeMap<String, String>,
    /// Responses to outbound requests. A request without one fails.
    pub http: Vec<CaseResponse>,
    /// Secrets by name, to which `config` can refer.
    pub secrets: BTreeMap<String, String>,
}

/// The response to an outbound request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseResponse {
    /// The URL that is requested, with its query.
    pub url: String,
    /// Status of the response.
    #[serde(default = "ok")]
    pub status: u16,
    /// Headers of the response.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderValues>,
    /// Body of the response: a text, or a value that is written as JSON.
    #[serde(default)]
    pub body: Value,
}

/// An outbound request that is expected. What is absent may have any value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseSent {
    /// The URL, with its query.
    pub url: String,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers by name in lower case, some of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body: a text, or the value of a body that is JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

impl CaseServices {
    /// Returns services with this content.
    pub(super) fn services(&self, redactor: Redactor) -> PluginServices {
        let responses = self.http.iter().map(|it| (it.url.clone(), it.response())).collect();
        let http = HttpAccess::fixed(responses);
        let services = PluginServices { http, redactor, now_ms: self.now_ms, ..PluginServices::default() };
        if !self.shared.is_empty() {
            let bytes = |(key, value): (&String, &String)| (key.clone(), Bytes::from(value.clone()));
            services.snapshot.publish(self.shared.iter().map(bytes).collect());
        }
        services
    }

    /// Sets the stored values to those of the case.
    pub(super) fn reset(&self, services: &PluginServices) {
        services.kv.fill(&self.kv);
    }
}

impl CaseResponse {
    fn response(&self) -> HttpResponse {
        let headers = self.headers.iter().flat_map(|(name, values)| {
            let values = match values {
                HeaderValues::One(value) => std::slice::from_ref(value),
                HeaderValues::Many(values) => values,
            };
            values.iter().map(|value| (name.to_ascii_lowercase(), value.clone().into_bytes()))
        });
        let body = match &self.body {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text.clone()),
            value => Bytes::from(value.to_string()),
        };
        HttpResponse { status: self.status, headers: headers.collect(), body }
    }
}

fn ok() -> u16 {
    200
}

/// Returns how the requests that were sent differ from the expected ones.
pub(super) fn differences(expected: &[CaseSent], sent: &[SentRequest]) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |field: String, expected: Value, actual: Value| {
        if expected != actual {
            found.push(Difference { field, expected, actual });
        }
    };
    compare("sent".to_owned(), expected.len().into(), sent.len().into());
    for (index, (expected, sent)) in expected.iter().zip(sent).enumerate() {
        let place = |part: &str| format!("sent[{index}].{part}");
        compare(place("url"), expected.url.as_str().into(), sent.url.as_str().into());
        if let Some(method) = &expected.method {
            compare(place("method"), method.as_str().into(), sent.method.as_str().into());
        }
        for (name, value) in &expected.headers {
            let actual = sent.headers.get(name).and_then(|value| value.to_str().ok());
            compare(place(&format!("headers.{name}")), value.as_str().into(), actual.into());
        }
        if let Some(body) = &expected.body {
            let text = || Value::from(String::from_utf8_lossy(&sent.body));
            let actual =
                if body.is_string() { text() } else { serde_json::from_slice(&sent.body).unwrap_or_else(|_| text()) };
            compare(place("body"), body.clone(), actual);
        }
    }
    found
}
