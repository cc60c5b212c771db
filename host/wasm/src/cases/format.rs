//! The format of cases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::reply::Reply;
use super::services::{CaseSent, CaseServices};
use crate::vocabulary::{Hook, clean};

/// Maximum number of cases of one plugin.
const MOST_CASES: usize = 1_000;

/// One case: what a plugin is called with, and what it must reply.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Name of the case, for reports.
    pub name: String,
    /// The hook that is called.
    pub hook: Hook,
    /// The configuration, as under `plugin.config` in a binding file. If absent, that of the binding file that the cases
    /// are run with, and `{}` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// The grants, as in a binding file. If absent, those of the binding file that the cases are run with, and without
    /// one all that the plugin wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<String>>,
    /// Name of the vendor, in lower case, as plugins see it; `none` if absent.
    #[serde(default = "no_vendor")]
    pub vendor: String,
    /// Name of the environment; `production` if absent.
    #[serde(default = "production")]
    pub environment: String,
    /// The request. Not for `payload-transform`.
    #[serde(default)]
    pub request: CaseRequest,
    /// The events of a batch, for `event-filter`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<CaseEvent>,
    /// Version of the vendor's event format, for `event-filter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// The flag data, for `payload-transform`.
    #[serde(default)]
    pub items: CaseItems,
    /// The context for `context-enrichment` and `evaluation-transform`: an object per kind, in which `key` is the key of the context and
    /// everything else an attribute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Map<String, Value>>,
    /// The evaluated flags, for `evaluation-transform`; sorted by flag before they are passed to the plugin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<CaseResult>,
    /// The changes, for `change-listener`; none stand for everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<CaseItem>,
    /// What the plugin finds when it is called: stored and published values, responses and secrets.
    #[serde(default)]
    pub services: CaseServices,
    /// The expected reply.
    pub expect: Reply,
    /// The expected outbound requests, all of them. Not checked if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Vec<CaseSent>>,
    /// What a call may cost. Not checked when a gateway loads the plugin.
    #[serde(default)]
    pub limits: CaseLimits,
}

/// The request of a case. What is absent is unknown to the plugin.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseRequest {
    /// Identifier of the route, such as `client.evaluate`.
    pub route: String,
    /// Kind of caller: `server`, `mobile` or `client`.
    pub sdk: String,
    /// HTTP method, in upper case.
    pub method: String,
    /// Path.
    pub path: String,
    /// Query, without `?`.
    pub query: Option<String>,
    /// Headers: a value, or a list of values, by name.
    pub headers: BTreeMap<String, HeaderValues>,
    /// The credential of the caller.
    pub credential: Option<String>,
    /// Address of the client.
    pub client_address: Option<std::net::IpAddr>,
    /// Address of the other end of the connection.
    pub peer_address: Option<std::net::IpAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The caller, as earlier request plugins named it.
    pub identity: Option<CaseIdentity>,
}

/// The values of one header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum HeaderValues {
    /// One value.
    One(String),
    /// Several, in order of arrival.
    Many(Vec<String>),
}

/// The identity of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseIdentity {
    /// Name of the caller.
    pub principal: String,
    /// Values by name.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// An event of a batch.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseEvent {
    /// Kind of the event; if absent, `kind` of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The event.
    pub body: Map<String, Value>,
}

/// Flag data of an environment.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseItems {
    /// The items that changed, in order; positions are the indexes in edits.
    pub changed: Vec<CaseItem>,
    /// Items of the environment that did not change.
    pub others: Vec<CaseItem>,
}

/// An item of flag data.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseItem {
    /// `flag` or `segment`.
    pub kind: String,
    /// Key of the item.
    pub key: String,
    /// Version of the item; if absent, `version` of the body, or 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The item; one without it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Map<String, Value>>,
}

/// An evaluated flag.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseResult {
    /// Key of the flag.
    pub flag: String,
    /// Its value.
    pub value: Value,
    /// Index of the variation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<u32>,
    /// The vendor's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Value>,
}

/// What a call may cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaseLimits {
    /// Time of a call in milliseconds, without the creation of the instance.
    pub max_ms: Option<u64>,
    /// Linear memory of the instance after the calls, in KiB.
    pub max_memory_kb: Option<u64>,
}

/// A case that cannot be read or run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct CasesError {
    /// Line, or name of the case.
    pub place: String,
    /// What is wrong with it.
    pub text: String,
}

impl Default for CaseRequest {
    fn default() -> Self {
        Self {
            route: "client.evaluate".to_owned(),
            sdk: "client".to_owned(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query: None,
            headers: BTreeMap::new(),
            credential: None,
            client_address: None,
            peer_address: None,
            tls: false,
            identity: None,
        }
    }
}

/// Parses a file of cases.
///
/// # Errors
/// The line of the first invalid case.
pub fn parse_cases(text: &str) -> Result<Vec<Case>, CasesError> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with("//") {
            continue;
        }
        let invalid = |text: String| CasesError { place: format!("line {}", index + 1), text };
        let case: Case = serde_json::from_str(line).map_err(|error| invalid(clean(&error.to_string())))?;
        if cases.iter().any(|it| it.name == case.name) {
            return Err(invalid(format!("`name`: another case is called `{}` already", clean(&case.name))));
        }
        if cases.len() >= MOST_CASES {
            return Err(invalid(format!("a plugin has at most {MOST_CASES} cases")));
        }
        cases.push(case);
    }
    Ok(cases)
}

fn no_vendor() -> String {
    "none".to_owned()
}

fn production() -> String {
    "production".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_lines_and_faults_name_theirs() {
        let fine = r#"{"name":"a","hook":"request-auth","expect":"abstain"}"#;
        let cases = parse_cases(&format!("// two\n{fine}\n\n{}\n", fine.replace("\"a\"", "\"b\""))).unwrap();
        assert_eq!((cases.len(), &*cases[1].name, &*cases[0].environment), (2, "b", "production"));
        for (text, place, fault) in [
            (fine.replace("request-auth", "request-oath"), "line 1", "unknown variant `request-oath`"),
            (fine.replace("expect", "expects"), "line 1", "unknown field `expects`"),
            (format!("{fine}\n{fine}"), "line 2", "another case is called `a`"),
            (format!("{fine}\n{{"), "line 2", "EOF"),
            (fine.replace(r#""abstain""#, r#"{"deny":{"class":"angry"}}"#), "line 1", "unknown variant `angry`"),
        ] {
            let error = parse_cases(&text).unwrap_err();
            assert!(error.place == place && error.text.contains(fault), "{text}: {error}");
        }
    }
}
