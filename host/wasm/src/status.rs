//! What an operator sees: every plugin, why it is or is not in service, and what it did.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use yardarm_core::hooks::Plan;
use yardarm_core::time::unix_ms;

use crate::breaker::BreakerState;
use crate::plan::PluginPlan;
use crate::plugin::Plugin;
use crate::pool::PoolStatus;
use crate::runtime::engine::EngineFacts;
use crate::vocabulary::{Bind, GuestSeries, Hook, HookMetrics, InstanceMetrics, Isolation, LoadError, PluginCounters};

/// The folder and its plugins at one moment. Contains no secret and no configuration value.
#[derive(Debug, Clone, Serialize)]
pub struct FolderStatus {
    /// The watched folder.
    pub folder: PathBuf,
    /// Why the folder cannot be used; the plan of before stays.
    pub trouble: Option<Refusal>,
    /// Whether everything that was there at the start has been loaded or refused.
    pub ready: bool,
    /// Generation of the plan in force.
    pub generation: u64,
    /// Since when it is in force, in Unix milliseconds.
    pub since_ms: u64,
    /// How often the plan has changed.
    pub swaps: u64,
    /// How many files were refused.
    pub refusals: u64,
    /// How WebAssembly runs on this machine.
    pub engine: EngineFacts,
    /// Each plugin, by file name.
    pub plugins: Vec<PluginStatus>,
    /// Names of plugins by hook, in the order in which they are asked.
    pub order: BTreeMap<&'static str, Vec<String>>,
}

/// One plugin at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct PluginStatus {
    /// File name without extension.
    pub file: String,
    /// Name that the plugin gives itself, or that its binding file gives it.
    pub name: Option<String>,
    /// What becomes of its files.
    pub state: RowState,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Since when a new version is being staged, in Unix milliseconds.
    pub staging_since_ms: Option<u64>,
    /// Whether its hooks fail closed because it is required and not there.
    pub fails_closed: bool,
    /// Why the newest files are not used.
    pub refused: Option<Refusal>,
    /// What runs.
    pub active: Option<ActiveStatus>,
}

/// A running version of a plugin.
#[derive(Debug, Clone, Serialize)]
pub struct ActiveStatus {
    /// Version that the plugin gives itself.
    pub version: String,
    /// One line on what it does.
    pub about: String,
    /// Digest of the component file.
    pub sha256: String,
    /// The plan with which it came.
    pub generation: u64,
    /// Whether it serves all its hooks because there is no binding file.
    pub auto_bound: bool,
    /// Hooks that the component answers.
    pub exports: Vec<Hook>,
    /// Grants that its imports ask for.
    pub grants_requested: Vec<String>,
    /// Grants that it has.
    pub grants: Vec<String>,
    /// Best measured time to make an instance, in microseconds.
    pub fresh_instance_us: u64,
    /// Time to compile or to load the compiled form, in milliseconds.
    pub compile_ms: u64,
    /// Whether the compiled form was there before.
    pub compiled_before: bool,
    /// Where it applies.
    pub bindings: Vec<BindingStatus>,
    /// Instances of all its generations.
    pub instances: InstanceMetrics,
    /// Calls of all its generations.
    pub calls: Vec<HookMetrics>,
}

/// A place of a plugin in a chain.
#[derive(Debug, Clone, Serialize)]
pub struct BindingStatus {
    /// Where it applies and under which limits.
    pub bind: Bind,
    /// Whether a call gets an instance of its own.
    pub isolation: Isolation,
    /// Calls in flight and instances.
    pub pool: PoolStatus,
    /// Whether calls pass.
    pub breaker: BreakerState,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Stable code, such as `L06`.
    pub code: &'static str,
    /// Class, such as `capability-denied`.
    pub class: &'static str,
    /// What to do about it.
    pub text: String,
    /// Digest of the component file.
    pub sha256: Option<String>,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
}

/// What becomes of a plugin's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// Some version runs.
    Active,
    /// The first version is on its way.
    Staging,
    /// Nothing runs, and the files cannot be used.
    Refused,
    /// There is no binding file, and none is made up.
    Unbound,
    /// There is no component file.
    Missing,
}

/// Counters of one plugin.
#[derive(Debug, Clone, Serialize)]
pub struct PluginMetrics {
    /// Name of the plugin.
    pub plugin: String,
    /// The plan with which the running version came; 0 if none runs.
    pub generation: u64,
    /// Calls by hook.
    pub hooks: Vec<HookMetrics>,
    /// Instances.
    pub instances: InstanceMetrics,
    /// Warm instances and calls in flight by hook.
    pub pools: Vec<(Hook, PoolStatus)>,
    /// State of each hook's breaker, and how often it has opened in the running version.
    pub breakers: Vec<(Hook, BreakerState, u64)>,
    /// Log lines that were too many.
    pub log_lines_dropped: u64,
    /// Series that the guest keeps.
    pub guest: Vec<GuestSeries>,
    /// Observations of the guest that were refused.
    pub guest_refused: u64,
}

impl Refusal {
    /// A refusal that begins now, of a component file with this digest if it was read.
    pub(crate) fn new(error: &LoadError, sha256: Option<[u8; 32]>) -> Self {
        Self {
            code: error.code(),
            class: error.class(),
            text: error.to_string(),
            sha256: sha256.map(hex::encode),
            since_ms: unix_ms(),
        }
    }
}

/// What the status is made of.
pub(crate) struct View {
    folder: PathBuf,
    engine: EngineFacts,
    rows: Vec<Row>,
    trouble: Option<Refusal>,
    plan: Option<Arc<PluginPlan>>,
    since_ms: u64,
    swaps: u64,
    refusals: u64,
    counters: HashMap<String, Arc<PluginCounters>>,
}

/// One plugin as the loader knows it.
pub(crate) struct Row {
    pub(crate) stem: Arc<str>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) state: RowState,
    pub(crate) since_ms: u64,
    pub(crate) staging_since_ms: Option<u64>,
    pub(crate) active: Option<Arc<Plugin>>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) fails_closed: bool,
}

impl View {
    pub(crate) fn new(folder: PathBuf, engine: EngineFacts) -> Self {
        Self {
            folder,
            engine,
            rows: Vec::new(),
            trouble: None,
            plan: None,
            since_ms: unix_ms(),
            swaps: 0,
            refusals: 0,
            counters: HashMap::new(),
        }
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn set_plan(&mut self, plan: Arc<PluginPlan>) {
        self.plan = Some(plan);
        self.since_ms = unix_ms();
    }

    pub(crate) fn set_rows(&mut self, rows: Vec<Row>, trouble: Option<&LoadError>) {
        self.rows = rows;
        let trouble = trouble.map(|error| Refusal::new(error, None));
        if self.trouble.as_ref().map(|it| &it.text) != trouble.as_ref().map(|it| &it.text) {
            self.trouble = trouble;
        }
    }

    pub(crate) fn set_counts(&mut self, swaps: u64, refusals: u64, counters: &HashMap<String, Arc<PluginCounters>>) {
        (self.swaps, self.refusals) = (swaps, refusals);
        self.counters.clone_from(counters);
    }

    pub(crate) fn status(&self, ready: bool) -> FolderStatus {
        let order = |hook: Hook| {
            let steps = self.plan.as_ref().map(|plan| plan.order(hook)).unwrap_or_default();
            (hook.name(), steps.iter().map(|link| link.name().to_string()).collect())
        };
        FolderStatus {
            folder: self.folder.clone(),
            trouble: self.trouble.clone(),
            ready,
            generation: self.plan.as_ref().map_or(0, |plan| plan.generation()),
            since_ms: self.since_ms,
            swaps: self.swaps,
            refusals: self.refusals,
            engine: self.engine.clone(),
            plugins: self.rows.iter().map(Row::status).collect(),
            order: Hook::ALL.into_iter().map(order).collect(),
        }
    }

    pub(crate) fn metrics(&self) -> Vec<PluginMetrics> {
        let mut names: Vec<&String> = self.counters.keys().collect();
        names.sort();
        names.into_iter().map(|name| self.metrics_of(name, &self.counters[name])).collect()
    }

    fn metrics_of(&self, name: &str, counters: &PluginCounters) -> PluginMetrics {
        let active = self.rows.iter().filter_map(|row| row.active.as_ref()).find(|plugin| *plugin.name == *name);
        let bindings = active.map(|plugin| &plugin.bindings[..]).unwrap_or_default();
        let mut breakers = BTreeMap::new();
        for binding in bindings {
            let (state, opened) = binding.breaker.state();
            breakers.insert(binding.bind.hook, (state, opened));
        }
        PluginMetrics {
            plugin: name.to_owned(),
            generation: active.map_or(0, |plugin| plugin.generation),
            hooks: counters.asked(),
            instances: counters.instances.read(),
            pools: bindings.iter().map(|binding| (binding.bind.hook, binding.pool.status())).collect(),
            breakers: breakers.into_iter().map(|(hook, (state, opened))| (hook, state, opened)).collect(),
            log_lines_dropped: counters.log.dropped(),
            guest: counters.guest.series(),
            guest_refused: counters.guest.refused(),
        }
    }
}

impl Row {
    fn status(&self) -> PluginStatus {
        PluginStatus {
            file: self.stem.to_string(),
            name: self.name.as_deref().map(str::to_owned),
            state: self.state,
            since_ms: self.since_ms,
            staging_since_ms: self.staging_since_ms,
            fails_closed: self.fails_closed,
            refused: self.refusal.clone(),
            active: self.active.as_deref().map(ActiveStatus::of),
        }
    }
}

impl ActiveStatus {
    fn of(plugin: &Plugin) -> Self {
        let binding = |binding: &Arc<crate::call::BindingInstance>| BindingStatus {
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
            generation: plugin.generation,
            auto_bound: plugin.automatic,
            exports: plugin.exported.clone(),
            grants_requested: plugin.requested.clone(),
            grants: plugin.guest.context.grants.names(),
            fresh_instance_us: u64::try_from(plugin.figures.fresh.as_micros()).unwrap_or(u64::MAX),
            compile_ms: u64::try_from(plugin.figures.compile.as_millis()).unwrap_or(u64::MAX),
            compiled_before: plugin.figures.cached,
            bindings: plugin.bindings.iter().map(binding).collect(),
            instances: counters.instances.read(),
            calls: counters.asked(),
        }
    }
}
