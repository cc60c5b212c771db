//! Posts as they are kept on disk: the events, and what an event filter may want to know of their request.
//!
//! Credentials are not kept: neither the caller's nor headers in which clients send one.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use yardarm_core::EnvironmentLabel;
use yardarm_core::budget::Charge;
use yardarm_core::hooks::{AdmittedRequest, Identity, RequestFacts, RequestHead};
use yardarm_vendor::events::spool::Entry;

use super::envelope::event_of;
use super::incoming::Post;
use super::split::Split;
use crate::identity::SdkKind;

/// Headers in which clients send secrets.
const SECRET: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

/// Everything of a post but its events.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    kind: SdkKind,
    schema: u32,
    is_unsummarized: bool,
    tags: Option<String>,
    method: String,
    /// Path and query as received.
    target: String,
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
    peer: Option<IpAddr>,
    is_tls: bool,
    principal: Option<Principal>,
}

/// The caller as request plugins named it.
#[derive(Debug, Serialize, Deserialize)]
struct Principal {
    name: String,
    tags: Vec<(String, String)>,
}

/// The route of a post of events.
pub(crate) fn route_of(kind: SdkKind, method: &Method) -> &'static str {
    match kind {
        SdkKind::Server => "server.events",
        SdkKind::Mobile => "mobile.events",
        SdkKind::Browser if *method == Method::GET => "client.pixel",
        SdkKind::Browser => "client.events",
    }
}

/// What is kept of a post.
pub(super) fn entry(post: &Post) -> Entry {
    let facts = &post.request.facts;
    let headers = facts.head.headers().filter(|(name, _)| !SECRET.iter().any(|it| it == name));
    let identity = post.request.identity.as_ref();
    let head = Head {
        kind: post.kind,
        schema: post.schema,
        is_unsummarized: post.is_unsummarized,
        tags: post.tags.as_deref().map(str::to_owned),
        method: facts.method.to_string(),
        target: match facts.head.query() {
            Some(query) => format!("{}?{query}", facts.head.path()),
            None => facts.head.path().to_owned(),
        },
        headers: headers.map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned())).collect(),
        client: facts.client,
        peer: facts.peer,
        is_tls: facts.is_tls,
        principal: identity.map(|it| Principal { name: it.principal.clone(), tags: it.tags.clone() }),
    };
    let head = serde_json::to_vec(&head).expect("texts and numbers are always JSON");
    Entry { head: head.into(), events: post.split.events.iter().map(|it| it.body.clone()).collect() }
}

/// The post that was kept, whose memory `charge` covers; `None` if it is not in the format of this version.
pub(super) fn post(label: &EnvironmentLabel, entry: Entry, charge: Charge, has_envelopes: bool) -> Option<Post> {
    let head: Head = serde_json::from_slice(&entry.head).ok()?;
    let method = Method::from_bytes(head.method.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let target: Uri = head.target.parse().ok()?;
    let facts = RequestFacts {
        head: RequestHead::new(&target, &headers),
        client: head.client,
        peer: head.peer,
        is_tls: head.is_tls,
        ..RequestFacts::new(label.clone(), route_of(head.kind, &method), head.kind.as_str())
    };
    let identity = head.principal.map(|it| Arc::new(Identity { principal: it.name, tags: it.tags }));
    let events = entry.events.into_iter().map(|body: Bytes| event_of(body, has_envelopes)).collect();
    Some(Post {
        kind: head.kind,
        request: AdmittedRequest { facts: Arc::new(RequestFacts { method, ..facts }), identity },
        schema: head.schema,
        is_unsummarized: head.is_unsummarized,
        tags: head.tags.map(Arc::from),
        split: Split { events, lost: std::collections::BTreeMap::new(), has_envelopes, charge },
    })
}

#[cfg(test)]
mod tests {
    use yardarm_core::budget::Budget;
    use yardarm_core::hooks::Event;

    use super::*;

    #[test]
    fn a_post_is_restored_without_its_credential() {
        let label = EnvironmentLabel::new("launchdarkly", "main");
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, HeaderValue::from_static("mob-canary")),
            (COOKIE, HeaderValue::from_static("canary")),
            (HeaderName::from_static("x-team"), HeaderValue::from_static("blue")),
        ]);
        let facts = RequestFacts {
            method: Method::POST,
            head: RequestHead::new(&Uri::from_static("/mobile?x=1"), &headers),
            client: Some(IpAddr::from([10, 0, 0, 1])),
            credential: Some("mob-canary".into()),
            ..RequestFacts::new(label.clone(), "mobile.events", "mobile")
        };
        let identity = Identity { principal: "p".to_owned(), tags: vec![("a".to_owned(), "b".to_owned())] };
        let charge = || Budget::new(1).account().charge(0).unwrap();
        let body = Bytes::from_static(br#"{"kind":"custom","creationDate":5}"#);
        let events = vec![Event { kind: None, at_ms: None, body: body.clone() }];
        let split = Split { events, lost: std::collections::BTreeMap::new(), has_envelopes: false, charge: charge() };
        let original = Post {
            kind: SdkKind::Mobile,
            request: AdmittedRequest { facts: Arc::new(facts), identity: Some(Arc::new(identity.clone())) },
            schema: 4,
            is_unsummarized: true,
            tags: Some("application-id/a".into()),
            split,
        };
        let entry = entry(&original);
        assert!(!String::from_utf8_lossy(&entry.head).contains("canary"));
        let restored = post(&label, entry, charge(), true).unwrap();
        assert_eq!((restored.kind, restored.schema, restored.is_unsummarized), (SdkKind::Mobile, 4, true));
        assert_eq!(
            (restored.tags.as_deref(), restored.request.identity.as_deref()),
            (Some("application-id/a"), Some(&identity))
        );
        let facts = &restored.request.facts;
        assert_eq!(
            (facts.route, facts.sdk, &facts.method, facts.client),
            ("mobile.events", "mobile", &Method::POST, Some(IpAddr::from([10, 0, 0, 1])))
        );
        assert_eq!((facts.head.path(), facts.head.query()), ("/mobile", Some("x=1")));
        assert_eq!(facts.head.headers().collect::<Vec<_>>(), [("x-team", &b"blue"[..])]);
        let event = &restored.split.events[0];
        assert_eq!((event.kind.as_deref(), event.at_ms, &event.body), (Some("custom"), Some(5), &body));
    }

    #[test]
    fn what_is_no_post_is_refused() {
        let label = EnvironmentLabel::new("launchdarkly", "main");
        let charge = Budget::new(1).account().charge(0).unwrap();
        let entry = Entry { head: Bytes::from_static(b"{}"), events: Vec::new() };
        assert!(post(&label, entry, charge, false).is_none());
    }
}
