//! Turns the status of the plugin folder into events: what was loaded or refused, calls, and failures.

use std::collections::BTreeMap;

use yardarm_wasm::{ActiveStatus, FolderStatus, LastError, PluginStatus};

use super::calls::HookCalls;
use super::event::{Calls, Loaded, RunEvent};

/// What was reported already.
#[derive(Debug, Default)]
pub(super) struct Observer {
    generation: Option<u64>,
    refusal: Option<(u64, String)>,
    calls: Option<Calls>,
    /// How often each error was reported to have occurred, by hook, generation and time of its first occurrence.
    errors: BTreeMap<(&'static str, Option<u64>, u64), u64>,
    loaded: u64,
}

impl Observer {
    /// Returns what is new: versions and refusals.
    pub(super) fn changes(&mut self, status: &FolderStatus) -> Vec<RunEvent> {
        let mut events = Vec::new();
        let Some(plugin) = status.plugins.first() else { return events };
        if let Some(active) = &plugin.active
            && self.generation != Some(active.generation)
        {
            events.push(RunEvent::Loaded(loaded(active, self.generation)));
            self.generation = Some(active.generation);
            self.loaded += 1;
        }
        let refused = plugin.refused.as_ref().or(status.trouble.as_ref());
        let refusal = refused.map(|refused| (refused.since_ms, refused.text.clone()));
        if let Some(refused) = refused
            && self.refusal != refusal
        {
            events.push(RunEvent::Refused {
                code: refused.code,
                class: refused.class,
                text: refused.text.clone(),
                running: plugin.active.as_ref().map(|active| active.generation),
            });
        }
        self.refusal = refusal;
        events
    }

    /// Returns what is new since the last call: failed calls, and counters if they have changed.
    pub(super) fn counters(&mut self, status: &FolderStatus, responses: BTreeMap<u16, u64>) -> Vec<RunEvent> {
        let Some(plugin) = status.plugins.first() else { return Vec::new() };
        let mut events = self.failures(plugin);
        if let Some(active) = &plugin.active {
            let calls = Calls {
                generation: active.generation,
                hooks: active.generation_calls.iter().map(HookCalls::new).collect(),
                memory_bytes: active.instances.peak_memory_bytes,
                grants_missing: active.grants_missing.clone(),
                responses,
            };
            if self.calls.as_ref() != Some(&calls) {
                events.push(RunEvent::Calls(calls.clone()));
                self.calls = Some(calls);
            }
        }
        events
    }

    /// Returns whether the newest version runs and none of its calls has failed.
    pub(super) fn is_fine(&self) -> bool {
        let failed = self.calls.iter().flat_map(|calls| &calls.hooks).map(|hook| hook.failed).sum::<u64>();
        self.generation.is_some() && self.refusal.is_none() && failed == 0
    }

    /// Returns how many versions were loaded.
    pub(super) fn loaded(&self) -> u64 {
        self.loaded
    }

    fn failures(&mut self, plugin: &PluginStatus) -> Vec<RunEvent> {
        let mut events = Vec::new();
        let mut errors = BTreeMap::new();
        // The oldest first.
        for error in plugin.last_errors.iter().rev() {
            let key = (error.hook.name(), error.generation, error.first_ms);
            let before = self.errors.get(&key).copied().unwrap_or(0);
            let seen: u64 = errors.get(&key).copied().unwrap_or(0).max(error.times);
            if error.times > before {
                events.push(failure(error, error.times - before));
            }
            errors.insert(key, seen);
        }
        self.errors = errors;
        events
    }
}

fn failure(error: &LastError, times: u64) -> RunEvent {
    RunEvent::CallFailed {
        hook: error.hook.name(),
        code: error.code,
        class: error.class,
        text: error.text.clone(),
        times,
        generation: error.generation,
    }
}

fn loaded(active: &ActiveStatus, replaced: Option<u64>) -> Loaded {
    let mut hooks: Vec<&'static str> = active.bindings.iter().map(|binding| binding.bind.hook.name()).collect();
    hooks.dedup();
    Loaded {
        version: active.version.clone(),
        generation: active.generation,
        replaced,
        sha256: active.sha256.clone(),
        hooks,
        auto_bound: active.auto_bound,
    }
}
