//! A component that was checked, compiled and linked, and its instances.
//!
//! [`Guest::instantiate`] is the only function that creates a store, so every store has a deadline, a memory limit and
//! the plugin's grants.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Component, InstancePre, ResourceTable};
use wasmtime::{ResourceLimiter, Store};

use crate::runtime::capability::fingerprint::Fingerprints;
use crate::runtime::capability::wasi::Wasi;
use crate::runtime::capture::CaptureSink;
use crate::runtime::cpu_share::CpuShare;
use crate::runtime::deadline::{Budget, Deadlines, within};
use crate::runtime::engine::Engine;
use crate::runtime::interface::{HookCall, v0_1};
use crate::runtime::processor_time::ProcessorTime;
use crate::services::PluginServices;
use crate::vocabulary::{
    CallError, CalledVersion, Evidence, Grants, GuestMetrics, Hook, HookMeters, LoadError, MissingGrants,
    PluginCounters,
};

/// Time limit of instantiation and `init` while a plugin is staged.
pub(crate) const INIT_DEADLINE: Duration = Duration::from_secs(2);
/// What an instance does before its first call, in place of a hook.
const START: &str = "init";
/// Number of calls after which an instance is replaced; guests' memory tends to grow.
pub(crate) const MOST_CALLS: u32 = 1_000;
/// Maximum number of host objects that a guest may hold: more than it is passed in its life, because guests of some
/// toolchains never drop them.
const MOST_HANDLES: usize = 4 * MOST_CALLS as usize;
/// Maximum number of table elements of one instance.
const MOST_TABLE_ELEMENTS: usize = 20_000;

/// A component that is ready to be instantiated.
pub(crate) struct Guest {
    pub(crate) engine: Arc<Engine>,
    pub(crate) context: Arc<PluginContext>,
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) indices: v0_1::Indices,
}

/// What host functions need to know about the plugin that calls them.
pub(crate) struct PluginContext {
    pub(crate) name: Arc<str>,
    pub(crate) version: CalledVersion,
    pub(crate) grants: Grants,
    /// The configuration, a JSON object, with its secrets.
    config: String,
    pub(crate) services: PluginServices,
    pub(crate) fingerprints: Arc<Fingerprints>,
    pub(crate) counters: Arc<PluginCounters>,
    pub(crate) share: Arc<CpuShare>,
    /// The calls of this generation.
    pub(crate) calls: HookMeters,
    pub(crate) evidence: Evidence,
    /// The metrics of the guest.
    pub(crate) metrics: GuestMetrics,
    pub(crate) missing_grants: MissingGrants,
    /// Where failed calls go; nowhere if absent.
    pub(crate) captures: Option<Arc<dyn CaptureSink>>,
}

/// One live instance, with the functions of one hook loaded.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    pub(crate) exports: v0_1::Exports,
    pub(crate) calls: u32,
    pub(crate) born: Instant,
    /// Size of linear memory right after `init`.
    pub(crate) memory_at_birth: usize,
}

/// The data of a store.
pub(crate) struct GuestState {
    pub(crate) plugin: Arc<PluginContext>,
    pub(crate) table: ResourceTable,
    /// Created when the guest first uses it.
    pub(crate) wasi: Option<Wasi>,
    pub(crate) memory: MemoryLimit,
    /// The hook that is called; `None` during the start.
    pub(crate) hook: Option<Hook>,
    /// Whether calls see the same time and random numbers always, whatever is granted.
    pub(crate) is_repeatable: bool,
    /// Whether this is a warm-up call, whose log lines and metrics are discarded.
    pub(crate) is_warm_up: bool,
    /// Bytes of host data that the guest has read in this call.
    pub(crate) lent: usize,
    budget: Budget,
}

/// Limits linear memory and tables of one instance.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    pub(crate) used: usize,
    limit: usize,
}

/// The guest exceeded the memory limit of its binding.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("wanted {wanted} bytes of memory, the limit is {limit}")]
pub(crate) struct MemoryExceeded {
    wanted: usize,
    limit: usize,
}

impl PluginContext {
    /// Creates the context of a new generation. `config` is the configuration, in which secrets are resolved; counters
    /// and share outlive the generation.
    pub(crate) fn new(
        name: Arc<str>,
        version: CalledVersion,
        grants: Grants,
        config: &serde_json::Map<String, serde_json::Value>,
        fingerprints: Arc<Fingerprints>,
        (counters, share, services): (Arc<PluginCounters>, Arc<CpuShare>, PluginServices),
    ) -> Self {
        Self {
            name,
            version,
            grants,
            config: serde_json::to_string(config).unwrap_or_default(),
            services,
            fingerprints,
            counters,
            share,
            calls: HookMeters::default(),
            evidence: Evidence::default(),
            metrics: GuestMetrics::default(),
            missing_grants: MissingGrants::default(),
            captures: None,
        }
    }

    /// Returns an error of the guest without secrets.
    fn redacted(&self, error: CallError) -> CallError {
        match error {
            CallError::Guest { kind, text } => {
                CallError::Guest { kind, text: self.services.redactor.redact(&text).into_owned() }
            }
            error => error,
        }
    }
}

impl GuestState {
    /// Returns the name of what the guest is called for.
    pub(crate) fn hook_name(&self) -> &'static str {
        self.hook.map_or(START, Hook::name)
    }

    /// Returns the time until the deadline of the call, for host functions that wait.
    pub(crate) fn time_left(&self) -> Duration {
        self.budget.time_left()
    }
}

impl Guest {
    /// Links a compiled component with the interfaces that are granted to it.
    ///
    /// # Errors
    /// If its imports or exports have other types than those of the host.
    pub(crate) fn link(engine: &Arc<Engine>, component: &Component, context: PluginContext) -> Result<Self, LoadError> {
        let linkers = engine.linkers_of(component);
        let pre = linkers.and_then(|linkers| linkers.of(&context.grants).instantiate_pre(component));
        let pre = pre.map_err(|error| LoadError::wrong_types(&error))?;
        let indices = v0_1::Indices::new(&pre).map_err(|error| LoadError::wrong_types(&error))?;
        Ok(Self { engine: Arc::clone(engine), context: Arc::new(context), pre, indices })
    }

    /// Creates an instance, calls `init`, and loads the functions of `hook`.
    pub(crate) async fn instantiate(
        &self,
        hook: Hook,
        memory_mb: u32,
        deadline: Duration,
        muted: bool,
    ) -> Result<Instance, CallError> {
        let mut store = self.store(hook, memory_mb, deadline, muted);
        let end = store.data().budget.end();
        let created = pin!(async move {
            let instance = self.pre.instantiate_async(&mut store).await?;
            let exports = self.indices.load(hook, &mut store, &instance)?;
            if let Some(lifecycle) = &self.indices.lifecycle {
                let lifecycle = lifecycle.load(&mut store, &instance)?;
                if let Err(error) = lifecycle.call_init(&mut store, &self.context.config).await? {
                    return wasmtime::Result::Ok(Err(error));
                }
            }
            Ok(Ok((store, exports)))
        });
        let created = within(end, created).await.ok_or(CallError::Deadline)?;
        let created = created.map_err(|error| CallError::of(&error))?;
        let (store, exports) = created.map_err(|error| self.context.redacted(error.into()))?;
        let memory_at_birth = store.data().memory.used;
        Ok(Instance { store, exports, calls: 0, born: Instant::now(), memory_at_birth })
    }

    fn store(&self, hook: Hook, memory_mb: u32, deadline: Duration, muted: bool) -> Store<GuestState> {
        let state = GuestState {
            plugin: Arc::clone(&self.context),
            table: ResourceTable::new(),
            wasi: None,
            memory: MemoryLimit { used: 0, limit: (memory_mb as usize) << 20 },
            hook: None,
            is_repeatable: !hook.may_read_clock(),
            is_warm_up: muted,
            lent: 0,
            budget: Budget::new(deadline),
        };
        let mut store = Store::new(self.pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.data_mut().table.set_max_capacity(MOST_HANDLES);
        store.set_max_component_handles(MOST_HANDLES);
        if self.engine.is_metered {
            // Fails only in engines that do not count instructions.
            let _ = store.set_fuel(u64::MAX);
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| store.data_mut().budget.tick());
        self.context.counters.instances.created();
        store
    }
}

impl Instance {
    /// Calls the guest, and adds the time for which it runs to `time`.
    ///
    /// # Errors
    /// The outer error if the instance cannot be used again; the inner one is the guest's own, or a reply that is too large.
    pub(crate) async fn call<A: HookCall>(
        &mut self,
        ask: &A,
        deadline: Duration,
        now: Instant,
        time: &ProcessorTime,
    ) -> Result<Result<A::Reply, CallError>, CallError> {
        let deadlines = self.begin(A::HOOK, deadline, now, ask.output_limit(0));
        let answer = {
            // Wasmtime's future is large; passed by value, it would be copied at each step.
            let asked = pin!(ask.ask(self));
            deadlines.wait(time.measure(asked)).await.ok_or(CallError::Deadline)?
        };
        let answer = answer.map_err(|error| CallError::of(&error))?;
        let answer = answer.map_err(|error| self.store.data().plugin.redacted(error));
        let lent = self.store.data().lent;
        let limit = ask.output_limit(lent);
        let size = answer.as_ref().map_or(0, A::output_size);
        if tracing::enabled!(tracing::Level::DEBUG) {
            tracing::Span::current().record("bytes_in", lent).record("bytes_out", size);
        }
        Ok(answer.and_then(|reply| match size {
            size if size > limit => Err(CallError::OutputTooLarge { size, limit }),
            _ => Ok(reply),
        }))
    }

    /// Prepares the next call.
    fn begin(&mut self, hook: Hook, deadline: Duration, now: Instant, output_limit: usize) -> Deadlines {
        self.calls += 1;
        self.store.set_epoch_deadline(1);
        // The host allocates for what a guest passes before it can be measured exactly.
        self.store.set_hostcall_fuel(output_limit.saturating_mul(4).saturating_add(64 << 10));
        let state = self.store.data_mut();
        state.hook = Some(hook);
        state.lent = 0;
        if state.is_repeatable
            && let Some(wasi) = &mut state.wasi
        {
            wasi.repeat(&state.plugin.grants);
        }
        state.budget.renew(deadline, now)
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            // An error ends the call with the same message for every language; after `false` each language would fail
            // in its own way.
            return Err(MemoryExceeded { wanted: used, limit: self.limit }.into());
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MOST_TABLE_ELEMENTS)
    }
}

impl GuestState {
    /// Records that the guest wanted something that is not granted, except in a warm-up call. `instead` is what it got.
    pub(crate) fn record_missing_grant(&self, grant: &str, instead: &str) {
        if !self.is_warm_up && self.plugin.missing_grants.record(grant) {
            tracing::warn!(
                plugin = %self.plugin.name,
                hook = self.hook_name(),
                "the plugin reads `{grant}` without the grant and gets {instead}; add it to `grants` in its binding file"
            );
        }
    }

    /// Records that the guest read the clock or random numbers, if it got others than real ones.
    pub(crate) fn record_unreal(&self, grant: &'static str, is_granted: bool, instead: &str) {
        let hook = self.hook_name();
        if !is_granted {
            self.record_missing_grant(grant, instead);
        } else if self.is_repeatable
            && !self.is_warm_up
            && self.plugin.missing_grants.record(&format!("{grant} in {hook}"))
        {
            tracing::warn!(
                plugin = %self.plugin.name,
                hook,
                "the plugin reads `{grant}` in `{hook}`, whose replies are shared and repeated, and gets {instead}; \
                 read it in `background` and publish what follows from it"
            );
        }
    }
}

impl Drop for GuestState {
    fn drop(&mut self) {
        self.plugin.counters.instances.gone(self.memory.used);
    }
}
