//! A context or target as a resource: keys as fingerprints unless granted, attributes by grant.

use std::sync::Arc;

use wasmtime::component::Resource;
use yardarm_core::hooks::ContextView;

use super::host;
use super::host::context::ContextKey;
use crate::runtime::guest::GuestState;

/// A context that is available during one call.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct Context(pub(super) Arc<dyn ContextView>);

impl GuestState {
    fn context(&self, handle: &Resource<Context>) -> wasmtime::Result<Arc<dyn ContextView>> {
        Ok(Arc::clone(&self.table.get(handle)?.0))
    }

    fn context_key(&self, key: &str) -> ContextKey {
        if self.plugin.grants.context_key {
            ContextKey::Plain(key.to_owned())
        } else {
            ContextKey::Fingerprint(self.plugin.fingerprints.of(key))
        }
    }
}

impl host::context::Host for GuestState {}

impl host::context::HostContext for GuestState {
    fn kinds(&mut self, handle: Resource<Context>) -> wasmtime::Result<Vec<String>> {
        Ok(self.context(&handle)?.kinds().into_iter().map(str::to_owned).collect())
    }

    fn key(&mut self, handle: Resource<Context>, kind: String) -> wasmtime::Result<Option<ContextKey>> {
        Ok(self.context(&handle)?.key(&kind).map(|key| self.context_key(key)))
    }

    fn canonical_key(&mut self, handle: Resource<Context>) -> wasmtime::Result<ContextKey> {
        Ok(self.context_key(&self.context(&handle)?.canonical_key()))
    }

    fn attribute(&mut self, handle: Resource<Context>, kind: String, name: String) -> wasmtime::Result<Option<String>> {
        if !self.plugin.grants.context_attribute(&name) {
            self.record_missing_grant(&format!("context-attributes:{name}"), "nothing");
            return Ok(None);
        }
        let attribute = self.context(&handle)?.attribute(&kind, &name);
        self.count_lent(attribute.as_ref().map_or(0, String::len))?;
        Ok(attribute)
    }

    fn attributes(&mut self, handle: Resource<Context>, kind: String) -> wasmtime::Result<Vec<String>> {
        let names = self.context(&handle)?.attributes(&kind);
        Ok(names.into_iter().filter(|name| self.plugin.grants.context_attribute(name)).collect())
    }

    fn drop(&mut self, _: Resource<Context>) -> wasmtime::Result<()> {
        Ok(())
    }
}
