//! The status of a running version.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::breaker::BreakerState;
use crate::call::BindingInstance;
use crate::plugin::Plugin;
use crate::pool::PoolStatus;
use crate::vocabulary::{
    Bind, Hook, HookMetrics, InstanceMetrics, Isolation, LimitsByHook, SignatureStatus, StatePolicy,
};

/// A running version of a plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActiveStatus {
    /// Version that the plugin declares.
    pub version: String,
    /// One-line description.
    pub about: String,
    /// Digest of the component file.
    pub sha256: String,
    /// Whether it is signed by a trusted key.
    pub signature: SignatureStatus,
    /// Number of the version, counted over all that were staged since the start.
    pub generation: u64,
    /// Whether it is bound to all its hooks because there is no binding file.
    pub auto_bound: bool,
    /// Hooks that the component exports.
    pub exports: Vec<Hook>,
    /// Grants that its imports require.
    pub grants_requested: Vec<String>,
    /// Grants that it has: those that the operator gives and, if it says so, it wants.
    pub grants: Vec<String>,
    /// Grants without which it has read nothing where it wanted to read something.
    pub grants_missing: Vec<String>,
    /// Limits that its manifest wants, by hook.
    pub limits_wanted: LimitsByHook,
    /// Whether its instances may keep state between calls, if it says so.
    pub state: Option<StatePolicy>,
    /// Shortest measured time to create an instance, in microseconds.
    pub fresh_instance_us: u64,
    /// Time to compile or to load the compiled form, in milliseconds.
    pub compile_ms: u64,
    /// Whether the compiled form was in the cache.
    pub compiled_before: bool,
    /// Its bindings.
    pub bindings: Vec<BindingStatus>,
    /// Instances of all its generations.
    pub instances: InstanceMetrics,
    /// Calls of all its generations.
    pub calls: Vec<HookMetrics>,
    /// Calls of this generation.
    pub generation_calls: Vec<HookMetrics>,
}

/// The status of one binding.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BindingStatus {
    /// The binding and its limits.
    pub bind: Bind,
    /// Whether each call gets its own instance.
    pub isolation: Isolation,
    /// Concurrent calls and instances.
    pub pool: PoolStatus,
    /// State of the circuit breaker.
    pub breaker: BreakerState,
}

impl ActiveStatus {
    pub(super) fn of(plugin: &Plugin) -> Self {
        let binding = |binding: &Arc<BindingInstance>| BindingStatus {
            bind: binding.bind.clone(),
            isolation: binding.isolation,
            pool: binding.pool.status(),
            breaker: binding.breaker.state().0,
        };
        let counters = &plugin.guest.context.counters;
        Self {
            version: plugin.version.clone(),
            about: plugin.about.clone(),
            sha256: hex::encode(plugin.sha256),
            signature: plugin.signature.clone(),
            generation: plugin.generation,
            auto_bound: plugin.automatic,
            exports: plugin.exported.clone(),
            grants_requested: plugin.requested.clone(),
            grants: plugin.guest.context.grants.names(),
            grants_missing: plugin.guest.context.missing_grants.names(),
            limits_wanted: plugin.wanted_limits.clone(),
            state: plugin.state,
            fresh_instance_us: u64::try_from(plugin.figures.fresh.as_micros()).unwrap_or(u64::MAX),
            compile_ms: u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
            compiled_before: plugin.figures.cached,
            bindings: plugin.bindings.iter().map(binding).collect(),
            instances: counters.instances.read(),
            calls: counters.calls.called_hooks(),
            generation_calls: plugin.guest.context.calls.called_hooks(),
        }
    }
}
