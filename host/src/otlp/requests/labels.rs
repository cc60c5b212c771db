//! The attributes of requests and streams in metrics.

use opentelemetry::KeyValue;
use yardarm_core::hooks::RequestFacts;
use yardarm_core::registry::RouteTag;

use super::super::instruments::{Active, Instruments, METHODS, SCHEMES};
use crate::request_metrics::Answered;

/// Name of the attribute with the name of an environment.
pub(in super::super) const ENVIRONMENT: &str = "launchdarkly.environment.name";
/// Value of attributes that are not known.
const MISSING: &str = "not_provided";
/// Longest text of a caller in an attribute, in bytes.
const LONGEST: usize = 255;

/// The attributes of a request or a stream. Texts of callers are shortened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Labels {
    environment: Option<String>,
    user_agent: Option<String>,
    application: [Option<String>; 2],
    route: Option<&'static str>,
    method: &'static str,
    scheme: &'static str,
    endpoint: Option<&'static str>,
}

impl Labels {
    /// Returns what is known of a request when it arrives.
    pub(super) fn new<'h>(active: &Active, header: impl Fn(&str) -> Option<&'h [u8]>) -> Self {
        Self::of_head(active.method(), active.scheme(), header)
    }

    fn of_head<'h>(method: &'static str, scheme: &'static str, header: impl Fn(&str) -> Option<&'h [u8]>) -> Self {
        let agent = header("x-launchdarkly-user-agent").or_else(|| header("user-agent"));
        let tags = header("x-launchdarkly-tags").and_then(|it| std::str::from_utf8(it).ok()).unwrap_or_default();
        let tag = |name: &str| {
            tags.split(' ').find_map(|it| it.strip_prefix(name)?.strip_prefix('/')).filter(|it| !it.is_empty())
        };
        Self {
            environment: None,
            user_agent: agent.map(|it| shortened(&String::from_utf8_lossy(it))).filter(|it| !it.is_empty()),
            application: ["application-id", "application-version"].map(|it| tag(it).map(shortened)),
            route: None,
            method,
            scheme,
            endpoint: None,
        }
    }

    /// Adds what is known when a request is answered.
    pub(super) fn of_answer(self, answered: &Answered<'_>) -> Self {
        let Some(RouteTag { route, path, environment, .. }) = answered.tag else { return self };
        Self {
            environment: environment.as_ref().map(|it| it.name().to_string()),
            route: Some(path),
            endpoint: endpoint(route),
            ..self
        }
    }

    /// Returns the attributes of an open stream.
    pub(in super::super) fn of_stream(facts: &RequestFacts, instruments: &Instruments) -> Self {
        let (method, scheme) = (method(facts.method.as_str()), scheme(facts.is_tls));
        let labels = Self::of_head(method, scheme, |name| facts.head.first(name));
        let (environment, route) = (&facts.environment, facts.route);
        Self {
            environment: Some(environment.name().to_string()),
            route: instruments.path(environment.vendor(), route, method),
            endpoint: endpoint(route),
            ..labels
        }
    }

    /// Returns them for the library.
    pub(in super::super) fn attributes(&self) -> Vec<KeyValue> {
        let [id, version] = &self.application;
        let text = |it: &Option<String>| it.clone().map_or_else(|| MISSING.into(), opentelemetry::Value::from);
        vec![
            KeyValue::new(ENVIRONMENT, text(&self.environment)),
            KeyValue::new("user_agent.original", text(&self.user_agent)),
            KeyValue::new("launchdarkly.application.id", text(id)),
            KeyValue::new("launchdarkly.application.version", text(version)),
            KeyValue::new("http.route", self.route.unwrap_or(MISSING)),
            KeyValue::new("http.request.method", self.method),
            KeyValue::new("url.scheme", self.scheme),
            KeyValue::new("launchdarkly.relay.endpoint.type", self.endpoint.unwrap_or(MISSING)),
        ]
    }
}

/// Returns the name of a method; those that no route has share one.
pub(super) fn method(method: &str) -> &'static str {
    METHODS.iter().find(|it| **it == method).unwrap_or(&METHODS[METHODS.len() - 1])
}

pub(super) fn scheme(is_tls: bool) -> &'static str {
    SCHEMES[usize::from(is_tls)]
}

/// Returns the kind of a route, by its identifier.
fn endpoint(route: &str) -> Option<&'static str> {
    let kinds = [
        ("stream", "stream"),
        ("poll", "poll"),
        ("evaluate", "poll"),
        ("events", "events"),
        ("diagnostic", "events"),
        ("pixel", "events"),
        ("goals", "goals"),
        ("status", "status"),
    ];
    kinds.into_iter().find(|(part, _)| route.split('.').any(|it| it == *part)).map(|(_, kind)| kind)
}

fn shortened(text: &str) -> String {
    let end = (0..=LONGEST.min(text.len())).rev().find(|it| text.is_char_boundary(*it)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v052_attributes_come_from_the_head_of_a_request() {
        let head = |name: &str| -> Option<&[u8]> {
            match name {
                "user-agent" => Some(b"GoClient/7.6.0"),
                "x-launchdarkly-tags" => Some(b"application-id/shop application-version/2.1"),
                _ => None,
            }
        };
        let labels = Labels::of_head("GET", "http", head);
        let attributes = labels.attributes();
        let value = |name: &str| attributes.iter().find(|it| it.key.as_str() == name).map(|it| it.value.to_string());
        for (name, expected) in [
            ("user_agent.original", "GoClient/7.6.0"),
            ("launchdarkly.application.id", "shop"),
            ("launchdarkly.application.version", "2.1"),
            ("launchdarkly.environment.name", "not_provided"),
            ("http.route", "not_provided"),
            ("url.scheme", "http"),
        ] {
            assert_eq!(value(name).as_deref(), Some(expected), "{name}");
        }
        let long = "é".repeat(200);
        let labels = Labels::of_head("GET", "http", |name| (name == "user-agent").then_some(long.as_bytes()));
        assert_eq!(labels.user_agent.map(|it| it.len()), Some(254));
    }

    #[test]
    fn v052_kinds_of_endpoints_follow_from_routes() {
        for (route, kind) in [
            ("server.stream.all", Some("stream")),
            ("client.stream", Some("stream")),
            ("server.poll.flags", Some("poll")),
            ("mobile.evaluate", Some("poll")),
            ("server.events", Some("events")),
            ("server.diagnostic", Some("events")),
            ("client.goals", Some("goals")),
            ("status", Some("status")),
            ("server.auth", None),
        ] {
            assert_eq!(endpoint(route), kind, "{route}");
        }
        assert_eq!(method("PATCH"), "_OTHER");
    }
}
