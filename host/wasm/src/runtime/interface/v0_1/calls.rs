//! Calls of the hooks: resources are lent to the guest for one call, and replies are converted.

use std::sync::Arc;

use wasmtime::component::Resource;
use yardarm_core::hooks::{ContextAttribute, ItemHead, RequestFacts};

use super::Exports;
use super::context::Context;
use super::data::{ItemSet, ResultSet};
use super::events::Batch;
use super::exports::{background, change_listener, context_enrichment};
use super::request::Request;
use crate::runtime::guest::Instance;
use crate::runtime::interface::{
    Announce, Authenticate, Decision, Enrich, Filter, HookCall, RawAddition, RawEdit, RawEventEdit, RawResultEdit,
    Refresh, Resolve, TransformPayload, TransformResults,
};
use crate::services::snapshot;
use crate::vocabulary::{CallError, Hook, Outcome, clean};

const KIB: usize = 1 << 10;

impl Instance {
    /// Lends a resource to the guest for the next call.
    fn lend<T: Send + 'static>(&mut self, resource: T) -> wasmtime::Result<Resource<T>> {
        Ok(self.store.data_mut().table.push(resource)?)
    }

    /// Takes a resource back after a call.
    fn take_back<T: Send + 'static>(&mut self, resource: Resource<T>) -> wasmtime::Result<()> {
        self.store.data_mut().table.delete(resource)?;
        Ok(())
    }
}

/// Returns a handle for the guest, which may drop it or not: what it names is deleted after the call.
fn handle<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_own(resource.rep())
}

fn wrong_hook<T>() -> wasmtime::Result<T> {
    Err(wasmtime::Error::msg("an instance was called with a hook that it was not created for"))
}

impl HookCall for Authenticate {
    const HOOK: Hook = Hook::RequestAuth;
    type Reply = Decision;

    fn request(&self) -> Option<&RequestFacts> {
        Some(&self.request.facts)
    }

    fn output_limit(&self, _: usize) -> usize {
        8 * KIB
    }

    fn output_size(reply: &Decision) -> usize {
        let headers = |headers: &[(String, Vec<u8>)]| headers.iter().map(|it| it.0.len() + it.1.len()).sum::<usize>();
        match reply {
            Decision::Allow { identity, response_headers } => {
                let tags = |tags: &[(String, String)]| tags.iter().map(|it| it.0.len() + it.1.len()).sum::<usize>();
                identity.as_ref().map_or(0, |it| it.principal.len() + tags(&it.tags)) + headers(response_headers)
            }
            Decision::Deny { reason, response_headers, .. } => {
                reason.as_ref().map_or(0, String::len) + headers(response_headers)
            }
            Decision::Abstain => 0,
        }
    }

    fn outcome(reply: &Decision) -> Outcome {
        match reply {
            Decision::Allow { .. } => Outcome::Allow,
            Decision::Deny { .. } => Outcome::Deny,
            Decision::Abstain => Outcome::Abstain,
        }
    }

    fn summary(reply: &Decision) -> Option<String> {
        match reply {
            Decision::Allow { identity, .. } => identity.as_ref().map(|it| it.principal.to_string()),
            Decision::Deny { class, reason, .. } => {
                let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                Some(clean(&format!("{class:?}{reason}")))
            }
            Decision::Abstain => None,
        }
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Decision, CallError>> {
        let request = instance.lend(Request::new(self.request.clone(), Self::HOOK))?;
        let Exports::RequestAuth(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_authenticate(&mut instance.store, handle(&request)).await?;
        instance.take_back(request)?;
        Ok(answer.map(Decision::from).map_err(CallError::from))
    }
}

impl HookCall for Resolve {
    const HOOK: Hook = Hook::RouteResolver;
    /// Name of an environment.
    type Reply = Option<String>;

    fn request(&self) -> Option<&RequestFacts> {
        Some(&self.request.facts)
    }

    fn output_limit(&self, _: usize) -> usize {
        KIB
    }

    fn output_size(reply: &Self::Reply) -> usize {
        reply.as_ref().map_or(0, String::len)
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        if reply.is_some() { Outcome::Changed } else { Outcome::Unchanged }
    }

    fn summary(reply: &Self::Reply) -> Option<String> {
        reply.as_deref().map(clean)
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let request = instance.lend(Request::new(self.request.clone(), Self::HOOK))?;
        let Exports::RouteResolver(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_resolve(&mut instance.store, handle(&request)).await?;
        instance.take_back(request)?;
        Ok(answer.map_err(CallError::from))
    }
}

impl HookCall for Filter {
    const HOOK: Hook = Hook::EventFilter;
    type Reply = Vec<RawEventEdit>;

    fn request(&self) -> Option<&RequestFacts> {
        Some(&self.facts.request.facts)
    }

    fn output_limit(&self, _: usize) -> usize {
        let input: usize = self.events.iter().map(|event| event.body.len()).sum();
        // A minimum, so that a batch of one small event may grow.
        (2 * input).max(64 * KIB)
    }

    fn output_size(reply: &Self::Reply) -> usize {
        let size = |edit: &RawEventEdit| match edit {
            RawEventEdit::Drop(_) => 0,
            RawEventEdit::Replace(_, bodies) => bodies.iter().map(Vec::len).sum(),
            RawEventEdit::Add(body) => body.len(),
        };
        reply.iter().map(size).sum()
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        Outcome::of_edits(reply)
    }

    fn summary(reply: &Self::Reply) -> Option<String> {
        Some(format!("edits: {}", reply.len()))
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let request = instance.lend(Request::new(self.facts.request.clone(), Self::HOOK))?;
        let batch = instance.lend(Batch { events: Arc::clone(&self.events), schema: self.facts.schema })?;
        let Exports::EventFilter(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_filter(&mut instance.store, handle(&request), handle(&batch)).await?;
        instance.take_back(batch)?;
        instance.take_back(request)?;
        Ok(answer.map(|edits| edits.into_iter().map(RawEventEdit::from).collect()).map_err(CallError::from))
    }
}

impl HookCall for TransformPayload {
    const HOOK: Hook = Hook::PayloadTransform;
    type Reply = Vec<RawEdit>;

    fn request(&self) -> Option<&RequestFacts> {
        None
    }

    fn output_limit(&self, lent: usize) -> usize {
        2 * lent + 64 * KIB
    }

    fn output_size(reply: &Self::Reply) -> usize {
        let size = |edit: &RawEdit| match edit {
            RawEdit::Drop(_) => 0,
            RawEdit::Replace(_, json) => json.len(),
            RawEdit::Add(RawAddition { kind, key, json, .. }) => kind.len() + key.len() + json.len(),
        };
        reply.iter().map(size).sum()
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        Outcome::of_edits(reply)
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let items = ItemSet { environment: self.facts.environment.clone(), view: Arc::clone(&self.view) };
        let items = instance.lend(items)?;
        let Exports::PayloadTransform(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_transform(&mut instance.store, handle(&items)).await?;
        instance.take_back(items)?;
        Ok(answer.map(|edits| edits.into_iter().map(RawEdit::from).collect()).map_err(CallError::from))
    }
}

impl HookCall for Enrich {
    const HOOK: Hook = Hook::ContextEnrichment;
    type Reply = Vec<ContextAttribute>;

    fn request(&self) -> Option<&RequestFacts> {
        Some(&self.facts.request.facts)
    }

    fn output_limit(&self, _: usize) -> usize {
        16 * KIB
    }

    fn output_size(reply: &Self::Reply) -> usize {
        reply.iter().map(|it| it.kind.len() + it.name.len() + it.value.len()).sum()
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        Outcome::of_edits(reply)
    }

    fn summary(reply: &Self::Reply) -> Option<String> {
        Some(format!("attributes: {}", reply.len()))
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let request = instance.lend(Request::new(self.facts.request.clone(), Self::HOOK))?;
        let context = instance.lend(Context(Arc::clone(&self.context)))?;
        let Exports::ContextEnrichment(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_enrich(&mut instance.store, handle(&request), handle(&context)).await?;
        instance.take_back(context)?;
        instance.take_back(request)?;
        let attribute = |it: context_enrichment::Attribute| ContextAttribute {
            kind: it.kind,
            name: it.name,
            value: it.value.into(),
        };
        Ok(answer.map(|attributes| attributes.into_iter().map(attribute).collect()).map_err(CallError::from))
    }
}

impl HookCall for TransformResults {
    const HOOK: Hook = Hook::EvaluationTransform;
    type Reply = Vec<RawResultEdit>;

    fn request(&self) -> Option<&RequestFacts> {
        Some(&self.facts.request.facts)
    }

    fn output_limit(&self, _: usize) -> usize {
        1 << 20
    }

    fn output_size(reply: &Self::Reply) -> usize {
        let length = |json: &Option<Vec<u8>>| json.as_ref().map_or(0, Vec::len);
        let size = |edit: &RawResultEdit| match edit {
            RawResultEdit::Drop(_) => 0,
            RawResultEdit::Replace { value, reason, .. } => length(value) + length(reason),
            RawResultEdit::Add { flag, value, reason, .. } => flag.len() + value.len() + length(reason),
        };
        reply.iter().map(size).sum()
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        Outcome::of_edits(reply)
    }

    fn summary(reply: &Self::Reply) -> Option<String> {
        Some(format!("edits: {}", reply.len()))
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let request = instance.lend(Request::new(self.facts.request.clone(), Self::HOOK))?;
        let context = instance.lend(Context(Arc::clone(&self.facts.context)))?;
        let results = instance.lend(ResultSet(Arc::clone(&self.view)))?;
        let Exports::EvaluationTransform(guest) = &instance.exports else { return wrong_hook() };
        let (store, lent) = (&mut instance.store, (handle(&request), handle(&context), handle(&results)));
        let answer = guest.call_transform(store, lent.0, lent.1, lent.2).await?;
        instance.take_back(results)?;
        instance.take_back(context)?;
        instance.take_back(request)?;
        Ok(answer.map(|edits| edits.into_iter().map(RawResultEdit::from).collect()).map_err(CallError::from))
    }
}

impl HookCall for Refresh {
    const HOOK: Hook = Hook::Background;
    /// What is published, if anything changes.
    type Reply = Option<Vec<(String, Vec<u8>)>>;

    fn request(&self) -> Option<&RequestFacts> {
        None
    }

    fn output_limit(&self, _: usize) -> usize {
        snapshot::MOST_BYTES
    }

    fn output_size(reply: &Self::Reply) -> usize {
        reply.iter().flatten().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn outcome(reply: &Self::Reply) -> Outcome {
        if reply.is_some() { Outcome::Changed } else { Outcome::Unchanged }
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<Self::Reply, CallError>> {
        let Exports::Background(guest) = &instance.exports else { return wrong_hook() };
        let answer = guest.call_refresh(&mut instance.store).await?;
        let pairs = |values: Vec<background::Value>| values.into_iter().map(|it| (it.key, it.value)).collect();
        Ok(answer.map(|values| values.map(pairs)).map_err(CallError::from))
    }
}

impl HookCall for Announce {
    const HOOK: Hook = Hook::ChangeListener;
    type Reply = ();

    fn request(&self) -> Option<&RequestFacts> {
        None
    }

    fn output_limit(&self, _: usize) -> usize {
        0
    }

    fn output_size((): &()) -> usize {
        0
    }

    fn outcome((): &()) -> Outcome {
        Outcome::Unchanged
    }

    async fn ask(&self, instance: &mut Instance) -> wasmtime::Result<Result<(), CallError>> {
        let notice = &self.notice;
        let item = |head: &ItemHead| change_listener::ChangedItem {
            kind: head.kind.to_owned(),
            key: head.key.to_string(),
            version: head.version,
            deleted: head.is_deleted,
        };
        let changes = change_listener::Changes {
            vendor: notice.environment.vendor().to_owned(),
            environment: notice.environment.name().to_string(),
            items: notice.items.iter().map(item).collect(),
            left_out: notice.left_out,
            at_ms: notice.at_ms,
        };
        let Exports::ChangeListener(guest) = &instance.exports else { return wrong_hook() };
        Ok(guest.call_changed(&mut instance.store, &changes).await?.map_err(CallError::from))
    }
}
