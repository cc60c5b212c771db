//! The input of a case in the form that hooks receive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Map, Value};
use yardarm_core::hooks::{
    AdmittedRequest, BatchFacts, ChangeNotice, ContextView, EnrichmentFacts, EvaluationFacts, Event, Identity,
    ItemHead, PayloadFacts, PayloadView, RequestFacts, RequestHead, SortedResults, ViewedResult,
};
use yardarm_core::{EnvironmentLabel, Secret};

use super::format::{Case, CaseItem, CaseItems, CasesError, HeaderValues};
use super::intern::intern;
use crate::runtime::interface::{
    Announce, AnyCall, Authenticate, Enrich, Filter, Refresh, Resolve, TransformPayload, TransformResults,
};
use crate::vocabulary::{Hook, clean};

/// Kinds of items, of both vendors.
const KINDS: [&str; 2] = ["flag", "segment"];

impl AnyCall {
    /// Converts the input of a case.
    ///
    /// # Errors
    /// Names the property that is invalid.
    pub(super) fn of_case(case: &Case) -> Result<Self, CasesError> {
        let fault = |(key, text): (&str, String)| CasesError {
            place: format!("case `{}`", clean(&case.name)),
            text: format!("`{key}`: {text}"),
        };
        let vendor = interned("vendor", &case.vendor).map_err(fault)?;
        let environment = EnvironmentLabel::new(vendor, &*case.environment);
        if case.hook == Hook::Background {
            return Ok(Self::Refresh(Refresh));
        }
        if case.hook == Hook::ChangeListener {
            let items = Items::of(&CaseItems { changed: case.changes.clone(), others: Vec::new() }).map_err(fault)?;
            let items = items.heads().to_vec();
            let notice = ChangeNotice { environment, items, left_out: 0, at_ms: 0 };
            return Ok(Self::Announce(Announce { notice }));
        }
        if case.hook == Hook::PayloadTransform {
            let view = Arc::new(Items::of(&case.items).map_err(fault)?);
            return Ok(Self::TransformPayload(TransformPayload { facts: PayloadFacts { environment }, view }));
        }
        let request = request(case, environment).map_err(fault)?;
        Ok(match case.hook {
            Hook::EventFilter => {
                let events = case.events.iter().map(|event| {
                    let own = || event.body.get("kind").and_then(Value::as_str).map(Arc::from);
                    Event {
                        kind: event.kind.as_deref().map(Arc::from).or_else(own),
                        at_ms: event.at_ms,
                        body: json(&event.body),
                    }
                });
                let events = Arc::new(events.collect());
                Self::Filter(Filter { facts: BatchFacts { request, schema: case.schema, read }, events })
            }
            Hook::ContextEnrichment => {
                let context = Arc::new(Context::of(&case.context));
                Self::Enrich(Enrich { facts: EnrichmentFacts { request }, context })
            }
            Hook::EvaluationTransform => {
                let mut results: Vec<_> = case
                    .results
                    .iter()
                    .map(|result| ViewedResult {
                        flag: (&*result.flag).into(),
                        value: result.value.to_string().into(),
                        variation: result.variation,
                        reason: result.reason.as_ref().map(|reason| reason.to_string().into()),
                    })
                    .collect();
                results.sort_by(|a, b| a.flag.cmp(&b.flag));
                if let Some(pair) = results.windows(2).find(|pair| pair[0].flag == pair[1].flag) {
                    return Err(fault(("results", format!("`{}` has two results", clean(&pair[0].flag)))));
                }
                let facts = EvaluationFacts { request, context: Arc::new(Context::of(&case.context)) };
                Self::TransformResults(TransformResults { facts, view: Arc::new(SortedResults::new(results)) })
            }
            Hook::RouteResolver => Self::Resolve(Resolve { request }),
            Hook::RequestAuth | Hook::PayloadTransform | Hook::Background | Hook::ChangeListener => {
                Self::Authenticate(Authenticate { request })
            }
        })
    }
}

type Fault = (&'static str, String);

fn interned(key: &'static str, text: &str) -> Result<&'static str, Fault> {
    intern(text).ok_or_else(|| (key, "too long, or one of too many different values".to_owned()))
}

fn request(case: &Case, environment: EnvironmentLabel) -> Result<AdmittedRequest, Fault> {
    let from = &case.request;
    let sdk = ["server", "mobile", "client"].into_iter().find(|it| *it == from.sdk);
    let sdk = sdk.ok_or_else(|| ("request.sdk", "must be `server`, `mobile` or `client`".to_owned()))?;
    let mut facts = RequestFacts::new(environment, interned("request.route", &from.route)?, sdk);
    facts.method = Method::from_bytes(from.method.as_bytes()).map_err(|error| ("request.method", error.to_string()))?;
    let target = match &from.query {
        Some(query) => format!("{}?{query}", from.path),
        None => from.path.clone(),
    };
    let target: Uri = target.parse().map_err(|error: http::uri::InvalidUri| ("request.path", error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, values) in &from.headers {
        let invalid = |text: String| ("request.headers", format!("`{}`: {text}", clean(name)));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        let values = match values {
            HeaderValues::One(value) => std::slice::from_ref(value),
            HeaderValues::Many(values) => values,
        };
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| invalid(error.to_string()))?;
            headers.append(name.clone(), value);
        }
    }
    facts.head = RequestHead::new(&target, &headers);
    facts.credential = from.credential.as_deref().map(Secret::from);
    (facts.client, facts.peer, facts.is_tls) = (from.client_address, from.peer_address, from.tls);
    let identity = from.identity.as_ref().map(|identity| {
        let tags = identity.tags.iter().map(|(name, value)| (name.clone(), value.clone()));
        Arc::new(Identity { principal: identity.principal.clone(), tags: tags.collect() })
    });
    Ok(AdmittedRequest { facts: Arc::new(facts), identity })
}

fn json(object: &Map<String, Value>) -> Bytes {
    serde_json::to_vec(object).unwrap_or_default().into()
}

/// Reads an event that a plugin has written. No other plugin receives it.
fn read(body: Bytes) -> Event {
    Event { kind: None, at_ms: None, body }
}

/// Flag data of a case.
struct Items {
    heads: Vec<ItemHead>,
    bodies: Vec<Option<Bytes>>,
    /// All items that exist, changed or not, by kind and key.
    all: BTreeMap<(String, String), Bytes>,
}

impl Items {
    fn of(items: &CaseItems) -> Result<Self, Fault> {
        let not_a_kind = || ("items.changed", "the kind of an item is `flag` or `segment`".to_owned());
        let mut heads = Vec::new();
        for CaseItem { kind, key, version, body } in &items.changed {
            let own = body.as_ref().and_then(|body| body.get("version")?.as_u64());
            heads.push(ItemHead {
                kind: KINDS.into_iter().find(|it| it == kind).ok_or_else(not_a_kind)?,
                key: (&**key).into(),
                version: version.or(own).unwrap_or(1),
                is_deleted: body.is_none(),
            });
        }
        let existing = items
            .others
            .iter()
            .chain(&items.changed)
            .filter_map(|item| Some(((item.kind.clone(), item.key.clone()), json(item.body.as_ref()?))));
        let bodies = items.changed.iter().map(|item| item.body.as_ref().map(json)).collect();
        Ok(Self { heads, bodies, all: existing.collect() })
    }
}

impl PayloadView for Items {
    fn heads(&self) -> &[ItemHead] {
        &self.heads
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        self.bodies.get(index)?.clone()
    }

    fn other(&self, kind: &str, key: &str) -> Option<Bytes> {
        self.all.get(&(kind.to_owned(), key.to_owned())).cloned()
    }

    fn list(&self, kind: &str) -> Vec<Arc<str>> {
        self.all.keys().filter(|(it, _)| it == kind).map(|(_, key)| (&**key).into()).collect()
    }
}

/// A context of a case.
struct Context {
    kinds: BTreeMap<String, Map<String, Value>>,
    canonical_key: String,
}

impl Context {
    fn of(kinds: &BTreeMap<String, Map<String, Value>>) -> Self {
        let key = |attributes: &Map<String, Value>| {
            attributes.get("key").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let canonical_key = match kinds.iter().next() {
            // The only kinds whose keys stand alone.
            Some((kind, attributes)) if kinds.len() == 1 && ["user", "target"].contains(&&**kind) => key(attributes),
            _ => kinds.iter().map(|(kind, it)| format!("{kind}:{}", key(it))).collect::<Vec<_>>().join(":"),
        };
        Self { kinds: kinds.clone(), canonical_key }
    }
}

impl ContextView for Context {
    fn kinds(&self) -> Vec<&str> {
        self.kinds.keys().map(|kind| &**kind).collect()
    }

    fn key(&self, kind: &str) -> Option<&str> {
        self.kinds.get(kind)?.get("key")?.as_str()
    }

    fn canonical_key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.canonical_key)
    }

    fn attributes(&self, kind: &str) -> Vec<String> {
        let attributes = self.kinds.get(kind).into_iter().flat_map(Map::keys);
        let mut names: Vec<_> = attributes.filter(|name| *name != "key").cloned().collect();
        names.sort();
        names
    }

    fn attribute(&self, kind: &str, name: &str) -> Option<String> {
        self.kinds.get(kind)?.get(name).filter(|_| name != "key").map(Value::to_string)
    }
}
