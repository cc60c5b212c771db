//! Calls as cases: what the plugin could read, masked where nothing else is configured.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};
use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{AdmittedRequest, ContextView, ItemHead, PayloadView, ResultView};

use super::captures::PlainFields;
use super::format::{Case, CaseEvent, CaseIdentity, CaseItem, CaseItems, CaseRequest, CaseResult, HeaderValues};
use super::{CaseLimits, CaseServices, Reply, masking};
use crate::runtime::guest::PluginContext;
use crate::runtime::interface::AnyCall;
use crate::vocabulary::{FieldClass, Grants};

/// Maximum size in bytes of the input in one case, roughly.
const LARGEST: usize = 256 << 10;
/// Headers that are always masked.
const SECRET_HEADERS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "x-api-key", "api-key"];

/// A case made of a call.
pub(super) struct Described {
    pub(super) case: Case,
    /// Number of events, items or results that are left out because the input is too large.
    pub(super) left_out: usize,
}

/// What is written how.
struct Writer<'a> {
    grants: &'a Grants,
    plain: PlainFields,
    plugin: &'a PluginContext,
    credential: Option<String>,
    left: usize,
    left_out: usize,
}

/// Returns the case of a call that failed as in `expect`.
pub(super) fn describe(
    plugin: &PluginContext,
    call: &AnyCall,
    plain: PlainFields,
    (name, now_ms, expect): (String, u64, Reply),
) -> Described {
    let credential = call.request().and_then(|it| it.facts.credential.as_ref()).map(|it| it.expose().to_owned());
    let mut writer = Writer { grants: &plugin.grants, plain, plugin, credential, left: LARGEST, left_out: 0 };
    let mut case = Case {
        name,
        hook: call.hook(),
        config: None,
        grants: Some(plugin.grants.names()),
        vendor: "none".to_owned(),
        environment: "none".to_owned(),
        request: call.request().map(|it| writer.request(it)).unwrap_or_default(),
        events: Vec::new(),
        schema: None,
        items: CaseItems::default(),
        context: BTreeMap::new(),
        results: Vec::new(),
        changes: Vec::new(),
        services: CaseServices { now_ms: Some(now_ms), ..CaseServices::default() },
        expect,
        sent: None,
        limits: CaseLimits::default(),
    };
    if let Some(label) = call.environment() {
        set_environment(&mut case, label);
    }
    match call {
        AnyCall::Authenticate(_) | AnyCall::Resolve(_) | AnyCall::Refresh(_) => (),
        AnyCall::Filter(it) => {
            case.schema = it.facts.schema;
            case.events = it.events.iter().filter_map(|event| writer.event(event)).collect();
        }
        AnyCall::TransformPayload(it) => {
            let heads = it.view.heads().iter().enumerate();
            case.items.changed = heads.filter_map(|(index, head)| writer.item(head, index, &*it.view)).collect();
        }
        AnyCall::Enrich(it) => case.context = writer.context(&*it.context),
        AnyCall::TransformResults(it) => {
            case.context = writer.context(&*it.facts.context);
            case.results = (0..it.view.len()).filter_map(|index| writer.result(index, &*it.view)).collect();
        }
        AnyCall::Announce(it) => {
            case.changes = it.notice.items.iter().map(|head| item(head, None)).collect();
        }
    }
    Described { case, left_out: writer.left_out }
}

fn set_environment(case: &mut Case, label: &EnvironmentLabel) {
    label.vendor().clone_into(&mut case.vendor);
    label.name().as_ref().clone_into(&mut case.environment);
}

fn item(head: &ItemHead, body: Option<Map<String, Value>>) -> CaseItem {
    // Without a body, an item counts as deleted.
    let body = body.or_else(|| (!head.is_deleted).then(Map::new));
    CaseItem { kind: head.kind.to_owned(), key: head.key.to_string(), version: Some(head.version), body }
}

impl Writer<'_> {
    fn text(&self, class: FieldClass, text: &str) -> String {
        if !self.plain.contains(class) {
            return masking::text(text);
        }
        let text = self.plugin.services.redactor.redact(text);
        match &self.credential {
            Some(credential) if !credential.is_empty() => text.replace(credential, &masking::text(credential)),
            _ => text.into_owned(),
        }
    }

    fn object(&self, class: FieldClass, object: &Map<String, Value>) -> Map<String, Value> {
        if !self.plain.contains(class) {
            return masking::object(object);
        }
        let text = self.text(class, &Value::Object(object.clone()).to_string());
        serde_json::from_str(&text).unwrap_or_else(|_| masking::object(object))
    }

    fn request(&self, request: &AdmittedRequest) -> CaseRequest {
        let facts = &request.facts;
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in facts.head.headers().filter(|(name, _)| self.grants.header(name)) {
            let value = String::from_utf8_lossy(value);
            let is_secret = SECRET_HEADERS.contains(&name);
            let value = if is_secret { masking::text(&value) } else { self.text(FieldClass::Headers, &value) };
            headers.entry(name.to_owned()).or_default().push(value);
        }
        let address = |address: IpAddr| {
            if self.plain.contains(FieldClass::Addresses) {
                return address;
            }
            match address {
                IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
                IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            }
        };
        let client = facts.client.filter(|_| self.grants.client_address);
        let peer = facts.peer.filter(|_| self.grants.client_address);
        let identity = request.identity.as_ref().filter(|_| self.grants.identity);
        CaseRequest {
            route: facts.route.to_owned(),
            sdk: facts.sdk.to_owned(),
            method: facts.method.to_string(),
            path: if self.grants.path { self.text(FieldClass::Targets, facts.head.path()) } else { "/".to_owned() },
            query: facts.head.query().filter(|_| self.grants.query).map(|it| self.text(FieldClass::Targets, it)),
            headers: headers.into_iter().map(|(name, values)| (name, HeaderValues::Many(values))).collect(),
            credential: self.credential.as_deref().map(masking::text),
            client_address: client.map(address),
            peer_address: peer.map(address),
            tls: facts.is_tls,
            identity: identity.map(|it| CaseIdentity {
                principal: self.text(FieldClass::Identities, &it.principal),
                tags: it
                    .tags
                    .iter()
                    .map(|(name, value)| (name.clone(), self.text(FieldClass::Identities, value)))
                    .collect(),
            }),
        }
    }

    /// Takes from the room that is left; returns whether there was enough.
    fn take(&mut self, size: usize) -> bool {
        match self.left.checked_sub(size) {
            Some(left) => self.left = left,
            None => self.left_out += 1,
        }
        self.left_out == 0
    }

    fn event(&mut self, event: &yardarm_core::hooks::Event) -> Option<CaseEvent> {
        let is_readable = self.grants.event_bodies;
        if !self.take(if is_readable { event.body.len() } else { 64 }) {
            return None;
        }
        let parsed = serde_json::from_slice(&event.body).ok().filter(|_| is_readable);
        let mut body = parsed.as_ref().map(|body| self.object(FieldClass::Events, body)).unwrap_or_default();
        // What kind an event is decides what a filter does with it.
        if let Some(kind) = parsed.as_ref().and_then(|body: &Map<String, Value>| body.get("kind")) {
            body.insert("kind".to_owned(), kind.clone());
        }
        Some(CaseEvent { kind: event.kind.as_deref().map(str::to_owned), at_ms: event.at_ms, body })
    }

    fn item(&mut self, head: &ItemHead, index: usize, view: &dyn PayloadView) -> Option<CaseItem> {
        let json = view.json(index).filter(|_| self.grants.flag_data);
        if !self.take(head.key.len() + json.as_ref().map_or(64, |json| json.len())) {
            return None;
        }
        let body = json.and_then(|json| serde_json::from_slice(&json).ok());
        let body = body.map(|body| {
            let mut masked = self.object(FieldClass::Data, &body);
            // Without these, the host refuses what is made of the item.
            for name in ["key", "identifier", "feature", "version"] {
                if let Some(value) = body.get(name) {
                    masked.insert(name.to_owned(), value.clone());
                }
            }
            masked
        });
        Some(item(head, body))
    }

    fn context(&self, context: &dyn ContextView) -> BTreeMap<String, Map<String, Value>> {
        let mut kinds = BTreeMap::new();
        for kind in context.kinds() {
            let mut attributes = Map::new();
            let key = context.key(kind).unwrap_or_default();
            attributes.insert("key".to_owned(), self.text(FieldClass::Contexts, key).into());
            for name in context.attributes(kind).into_iter().filter(|it| self.grants.context_attribute(it)) {
                let value = context.attribute(kind, &name).and_then(|it| serde_json::from_str::<Value>(&it).ok());
                let value = Map::from_iter([(name, value.unwrap_or_default())]);
                attributes.extend(self.object(FieldClass::Contexts, &value));
            }
            kinds.insert(kind.to_owned(), attributes);
        }
        kinds
    }

    fn result(&mut self, index: usize, view: &dyn ResultView) -> Option<CaseResult> {
        let result = view.get(index)?;
        let is_readable = self.grants.flag_data;
        if !self.take(result.flag.len() + if is_readable { result.value.len() } else { 8 }) {
            return None;
        }
        let value = serde_json::from_slice(&result.value).ok().filter(|_| is_readable).unwrap_or(Value::Null);
        let value = Map::from_iter([("value".to_owned(), value)]);
        let value = self.object(FieldClass::Data, &value).remove("value").unwrap_or_default();
        let reason = result.reason.as_ref().filter(|_| is_readable);
        let reason = reason.and_then(|it| serde_json::from_slice(it).ok());
        Some(CaseResult { flag: result.flag.to_string(), value, variation: result.variation, reason })
    }
}

impl AnyCall {
    /// Returns the environment that the call is made for, if there is one.
    fn environment(&self) -> Option<&EnvironmentLabel> {
        match self {
            Self::TransformPayload(it) => Some(&it.facts.environment),
            Self::Announce(it) => Some(&it.notice.environment),
            Self::Refresh(_) => None,
            call => call.request().map(|it| &it.facts.environment),
        }
    }
}
