//! A batch of events as a resource.

use std::sync::Arc;

use wasmtime::component::Resource;
use yardarm_core::hooks;

use super::host;
use crate::runtime::guest::GuestState;

/// A batch that is available during one call.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct Batch {
    pub(super) events: Arc<Vec<hooks::Event>>,
    pub(super) schema: Option<u32>,
}

impl GuestState {
    fn events_of(&self, handle: &Resource<Batch>) -> wasmtime::Result<Arc<Vec<hooks::Event>>> {
        Ok(Arc::clone(&self.table.get(handle)?.events))
    }

    fn event(&mut self, event: &hooks::Event) -> wasmtime::Result<host::events::Event> {
        let body = if self.plugin.grants.event_bodies { self.lend(&event.body)? } else { None };
        Ok(host::events::Event { kind: event.kind.as_deref().map(str::to_owned), at_ms: event.at_ms, body })
    }
}

impl host::events::Host for GuestState {}

impl host::events::HostBatch for GuestState {
    fn len(&mut self, handle: Resource<Batch>) -> wasmtime::Result<u32> {
        Ok(u32::try_from(self.table.get(&handle)?.events.len()).unwrap_or(u32::MAX))
    }

    fn events(&mut self, handle: Resource<Batch>) -> wasmtime::Result<Vec<host::events::Event>> {
        let events = self.events_of(&handle)?;
        events.iter().map(|event| self.event(event)).collect()
    }

    fn get(&mut self, handle: Resource<Batch>, index: u32) -> wasmtime::Result<Option<host::events::Event>> {
        let events = self.events_of(&handle)?;
        events.get(index as usize).map(|event| self.event(event)).transpose()
    }

    fn kinds(&mut self, handle: Resource<Batch>) -> wasmtime::Result<Vec<Option<String>>> {
        let kind = |event: &hooks::Event| event.kind.as_deref().map(str::to_owned);
        Ok(self.table.get(&handle)?.events.iter().map(kind).collect())
    }

    fn schema(&mut self, handle: Resource<Batch>) -> wasmtime::Result<Option<u32>> {
        Ok(self.table.get(&handle)?.schema)
    }

    fn drop(&mut self, _: Resource<Batch>) -> wasmtime::Result<()> {
        Ok(())
    }
}
