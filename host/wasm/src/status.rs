//! The status of plugins for operators: what runs, why files are not used, and counters.

mod active;
mod order;
mod rollout;
mod states;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::hooks::Plan;
use yardarm_core::time::unix_ms;

pub use self::active::{ActiveStatus, BindingStatus};
pub use self::order::OrderedPlugin;
pub use self::rollout::RolloutStatus;
pub(crate) use self::rollout::RolloutView;
pub use self::states::{ProbationStatus, QuarantinedStatus, Refusal, RowState, SetRow, SetState};
use crate::breaker::BreakerState;
use crate::chain::{Shadow, ShadowReport};
use crate::plan::PluginPlan;
use crate::plugin::Plugin;
use crate::runtime::engine::EngineFacts;
use crate::services::Services;
use crate::services::kv::KvDatabaseStatus;
use crate::vocabulary::{
    AllCounters, GuestSeries, Hook, HookMetrics, InstanceMetrics, LastError, LoadError, PluginCounters, Progress,
    RollbackReason, StagingStep,
};

/// The status of the folder and its plugins. Contains no secrets and no configuration values.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FolderStatus {
    /// The watched folder.
    #[schema(value_type = String)]
    pub folder: PathBuf,
    /// Why the folder cannot be used; the previous plan remains.
    pub trouble: Option<Refusal>,
    /// Whether every file that was present at the start has been loaded or rejected.
    pub ready: bool,
    /// Generation of the current plan.
    pub generation: u64,
    /// Unix milliseconds at which it was installed.
    pub since_ms: u64,
    /// How often the plan has changed.
    pub swaps: u64,
    /// Number of rejected files.
    pub refusals: u64,
    /// Properties of the WebAssembly engine.
    pub engine: EngineFacts,
    /// Each plugin, by file name.
    pub plugins: Vec<PluginStatus>,
    /// Each set of plugins, by file name.
    pub sets: Vec<SetRow>,
    /// The database of stored values, if one is configured.
    pub kv_redis: Option<KvDatabaseStatus>,
    /// Plugins by hook, in the order in which they are called.
    pub order: BTreeMap<&'static str, Vec<OrderedPlugin>>,
}

/// The status of one plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PluginStatus {
    /// File name without extension.
    pub file: String,
    /// Name that the plugin declares, or the one in its binding file.
    pub name: Option<String>,
    /// State of its files.
    pub state: RowState,
    /// Unix milliseconds since when it is in this state.
    pub since_ms: u64,
    /// Unix milliseconds since when a new version is being staged.
    pub staging_since_ms: Option<u64>,
    /// What is done for that at present.
    pub staging_step: Option<StagingStep>,
    /// Unix milliseconds since when.
    pub staging_step_since_ms: Option<u64>,
    /// Whether its hooks fail closed because it is required and missing.
    pub fails_closed: bool,
    /// Why the newest files are not used.
    pub refused: Option<Refusal>,
    /// What the state means and what an operator can do, where that is not obvious.
    pub advice: Option<String>,
    /// The probation of the running version, while it lasts.
    pub probation: Option<ProbationStatus>,
    /// A newer version that is being rolled out beside the running one.
    pub rollout: Option<RolloutStatus>,
    /// The version before the running one, which an operator can return to.
    pub previous_version: Option<String>,
    /// Whether an operator has pinned the running version.
    pub pinned: bool,
    /// Versions that were rolled back and are not loaded again until they are cleared, the newest last.
    pub quarantined: Vec<QuarantinedStatus>,
    /// The last failed calls, by hook, the newest first.
    pub last_errors: Vec<LastError>,
    /// The running version.
    pub active: Option<ActiveStatus>,
}

/// Counters of one plugin.
#[derive(Debug, Clone, Serialize)]
pub struct PluginMetrics {
    /// Name of the plugin.
    pub plugin: String,
    /// Number of the running version, counted over all that were staged since the start; 0 if none runs.
    pub generation: u64,
    /// Calls by hook.
    pub hooks: Vec<HookMetrics>,
    /// How the replies of a version in shadow differ from those of the running one, if there is such a version.
    pub shadow: Option<ShadowReport>,
    /// Calls of the generations that are loaded.
    pub generations: Vec<GenerationMetrics>,
    /// Instances.
    pub instances: InstanceMetrics,
    /// Numbers of busy and of idle instances by hook, over all bindings.
    pub pools: Vec<(Hook, usize, usize)>,
    /// State of each hook's breaker, and how often it has opened in the running version.
    pub breakers: Vec<(Hook, BreakerState, u64)>,
    /// Seconds for which calls ran on a processor.
    pub cpu_seconds: f64,
    /// How often a version was rolled back, by reason.
    pub rollbacks: Vec<(RollbackReason, u64)>,
    /// Number of dropped log lines.
    pub log_lines_dropped: u64,
    /// Number of the host's reports about failed calls that were left out of the log.
    pub reports_dropped: u64,
    /// Series of the running version.
    pub guest: Vec<GuestSeries>,
    /// Number of rejected observations of the guest.
    pub guest_refused: u64,
    /// Changes of flag data that the plugin did not receive, because it was too slow or refused them.
    pub changes_left_out: u64,
    /// Operations on stored values that the database did not answer.
    pub kv_unavailable: u64,
}

/// Counters of one generation of a plugin.
#[derive(Debug, Clone, Serialize)]
pub struct GenerationMetrics {
    /// Number of the version, counted over all that were staged since the start.
    pub generation: u64,
    /// Version that the plugin declares.
    pub version: String,
    /// Calls by hook.
    pub hooks: Vec<HookMetrics>,
}

/// The data from which the status is built.
pub(crate) struct View {
    folder: PathBuf,
    engine: EngineFacts,
    rows: Vec<Row>,
    sets: Vec<SetRow>,
    trouble: Option<Refusal>,
    plan: Option<Arc<PluginPlan>>,
    since_ms: u64,
    swaps: u64,
    refusals: u64,
    counters: AllCounters,
    services: Services,
}

/// One plugin as stored in the loader.
pub(crate) struct Row {
    pub(crate) stem: Arc<str>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) state: RowState,
    pub(crate) since_ms: u64,
    pub(crate) staging: Option<(u64, Progress)>,
    pub(crate) active: Option<Arc<Plugin>>,
    pub(crate) probation: Option<ProbationStatus>,
    /// The version that is kept warm during the probation.
    pub(crate) previous: Option<Arc<Plugin>>,
    pub(crate) rollout: Option<RolloutView>,
    /// The version that an operator can return to.
    pub(crate) returnable: Option<String>,
    pub(crate) is_pinned: bool,
    pub(crate) quarantined: Vec<QuarantinedStatus>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) fails_closed: bool,
    pub(crate) advice: Option<String>,
}

impl View {
    pub(crate) fn new(folder: PathBuf, engine: EngineFacts, counters: AllCounters, services: Services) -> Self {
        Self {
            folder,
            engine,
            rows: Vec::new(),
            sets: Vec::new(),
            trouble: None,
            plan: None,
            since_ms: unix_ms(),
            swaps: 0,
            refusals: 0,
            counters,
            services,
        }
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Returns the name that the plugin in a file declares.
    pub(crate) fn declared_name(&self, file: &str) -> Option<Arc<str>> {
        self.rows.iter().find(|row| *row.stem == *file).and_then(|row| row.name.clone())
    }

    pub(crate) fn set_plan(&mut self, plan: Arc<PluginPlan>) {
        self.plan = Some(plan);
        self.since_ms = unix_ms();
    }

    pub(crate) fn set_rows(&mut self, rows: Vec<Row>, sets: Vec<SetRow>, trouble: Option<&LoadError>) {
        (self.rows, self.sets) = (rows, sets);
        let trouble = trouble.map(|error| Refusal::new(error, None));
        if self.trouble.as_ref().map(|it| &it.text) != trouble.as_ref().map(|it| &it.text) {
            self.trouble = trouble;
        }
    }

    pub(crate) fn set_counts(&mut self, swaps: u64, refusals: u64) {
        (self.swaps, self.refusals) = (swaps, refusals);
    }

    pub(crate) fn status(&self, ready: bool) -> FolderStatus {
        let order = |hook: Hook| {
            let steps = self.plan.as_ref().map(|plan| plan.order(hook)).unwrap_or_default();
            (hook.name(), steps.iter().map(OrderedPlugin::of).collect())
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
            plugins: self.rows.iter().map(|row| row.status(&self.counters)).collect(),
            sets: self.sets.clone(),
            kv_redis: self.services.kv_database(),
            order: Hook::ALL.into_iter().map(order).collect(),
        }
    }

    pub(crate) fn metrics(&self) -> Vec<PluginMetrics> {
        self.counters.all().into_iter().map(|(name, counters)| self.metrics_of(&name, &counters)).collect()
    }

    fn metrics_of(&self, name: &str, counters: &PluginCounters) -> PluginMetrics {
        let row = self.rows.iter().find(|row| row.active.as_ref().is_some_and(|plugin| *plugin.name == *name));
        let (active, previous) = (row.and_then(|row| row.active.as_ref()), row.and_then(|row| row.previous.as_ref()));
        let rollout = row.and_then(|row| row.rollout.as_ref());
        let newer = rollout.map(|rollout| &rollout.newer.plugin);
        let bindings = active.map(|plugin| &plugin.bindings[..]).unwrap_or_default();
        let (mut breakers, mut pools) = (BTreeMap::new(), BTreeMap::new());
        for binding in bindings {
            breakers.insert(binding.bind.hook, binding.breaker.state());
            let (pool, (busy, idle)) = (binding.pool.status(), pools.entry(binding.bind.hook).or_insert((0, 0)));
            *busy += pool.busy;
            *idle += pool.idle;
        }
        PluginMetrics {
            plugin: name.to_owned(),
            generation: active.map_or(0, |plugin| plugin.generation),
            hooks: counters.calls.called_hooks(),
            generations: active
                .into_iter()
                .chain(previous)
                .chain(newer)
                .map(|plugin| GenerationMetrics::of(plugin))
                .collect(),
            shadow: rollout.and_then(|it| it.newer.shadow()).map(Shadow::report),
            instances: counters.instances.read(),
            pools: pools.into_iter().map(|(hook, (busy, idle))| (hook, busy, idle)).collect(),
            breakers: breakers.into_iter().map(|(hook, (state, opened))| (hook, state, opened)).collect(),
            cpu_seconds: counters.processor_time().as_secs_f64(),
            rollbacks: counters.rollbacks.read(),
            log_lines_dropped: counters.log.dropped(),
            reports_dropped: counters.reports.dropped(),
            guest: active.map(|plugin| plugin.guest.context.metrics.series()).unwrap_or_default(),
            guest_refused: counters.guest_metrics_refused(),
            changes_left_out: counters.changes_left_out(),
            kv_unavailable: counters.kv_unavailable(),
        }
    }
}

impl Row {
    fn status(&self, counters: &AllCounters) -> PluginStatus {
        let counters = self.name.as_deref().and_then(|name| counters.find(name));
        let step = self.staging.as_ref().map(|(_, progress)| progress.step());
        PluginStatus {
            file: self.stem.to_string(),
            name: self.name.as_deref().map(str::to_owned),
            state: self.state,
            since_ms: self.since_ms,
            staging_since_ms: self.staging.as_ref().map(|(since_ms, _)| *since_ms),
            staging_step: step.map(|(step, _)| step),
            staging_step_since_ms: step.map(|(_, since_ms)| since_ms),
            fails_closed: self.fails_closed,
            refused: self.refusal.clone(),
            advice: self.advice.clone(),
            probation: self.probation.clone(),
            rollout: self.rollout.as_ref().map(RolloutView::status),
            previous_version: self.returnable.clone(),
            pinned: self.is_pinned,
            quarantined: self.quarantined.clone(),
            last_errors: counters.map(|counters| counters.last_errors()).unwrap_or_default(),
            active: self.active.as_deref().map(ActiveStatus::of),
        }
    }
}

impl GenerationMetrics {
    fn of(plugin: &Plugin) -> Self {
        let hooks = plugin.guest.context.calls.called_hooks();
        Self { generation: plugin.generation, version: plugin.version.clone(), hooks }
    }
}
