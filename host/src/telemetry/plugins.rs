//! Metrics of plugins, rendered by hand: guests name their own series, which a registry of fixed metrics cannot hold.

use std::fmt::Write;

use yardarm_wasm::{BreakerState, CALL_SECONDS, FolderStatus, GuestValue, PluginMetrics};

/// Appends the metrics of all plugins in the text format of Prometheus. Writing to a string does not fail.
pub(super) fn append(out: &mut String, plugins: &[PluginMetrics], folder: &FolderStatus) {
    header(out, "yardarm_plugin_calls_total", "counter", "Calls by outcome: ok, or the class of the failure.");
    for plugin in plugins {
        for hook in &plugin.hooks {
            for (outcome, count) in hook.outcomes.iter().filter(|(_, count)| *count > 0) {
                let labels = [("plugin", plugin.plugin.as_str()), ("hook", hook.hook.name()), ("outcome", outcome)];
                line(out, "yardarm_plugin_calls_total", &labels, count);
            }
        }
    }
    header(out, "yardarm_plugin_call_seconds", "histogram", "Time of a call, including the wait for an instance.");
    for plugin in plugins {
        for hook in &plugin.hooks {
            let labels = [("plugin", plugin.plugin.as_str()), ("hook", hook.hook.name())];
            histogram(out, "yardarm_plugin_call_seconds", &labels, &hook.buckets, hook.seconds);
        }
    }
    header(out, "yardarm_plugin_pool_wait_seconds_total", "counter", "Time that calls waited for an instance.");
    for plugin in plugins {
        for hook in &plugin.hooks {
            let labels = [("plugin", plugin.plugin.as_str()), ("hook", hook.hook.name())];
            line(out, "yardarm_plugin_pool_wait_seconds_total", &labels, hook.waited_seconds);
        }
    }
    header(out, "yardarm_plugin_pool_instances", "gauge", "Instances of the pool by state.");
    for plugin in plugins {
        for (hook, pool) in &plugin.pools {
            for (state, count) in [("busy", pool.busy), ("idle", pool.idle)] {
                let labels = [("plugin", plugin.plugin.as_str()), ("hook", hook.name()), ("state", state)];
                line(out, "yardarm_plugin_pool_instances", &labels, count);
            }
        }
    }
    header(out, "yardarm_plugin_breaker_state", "gauge", "0 closed, 1 half open, 2 open.");
    for plugin in plugins {
        for (hook, state, _) in &plugin.breakers {
            let state = match state {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            };
            let labels = [("plugin", plugin.plugin.as_str()), ("hook", hook.name())];
            line(out, "yardarm_plugin_breaker_state", &labels, state);
        }
    }
    for (name, kind, help, value) in [
        (
            "yardarm_plugin_generation",
            "gauge",
            "Plan that activated the running version; 0 if none runs.",
            (|it| it.generation) as fn(&PluginMetrics) -> u64,
        ),
        ("yardarm_plugin_instances_created_total", "counter", "Instances created.", |it| it.instances.created),
        ("yardarm_plugin_instances_alive", "gauge", "Instances alive.", |it| it.instances.alive),
        ("yardarm_plugin_memory_peak_bytes", "gauge", "Largest linear memory of any instance.", |it| {
            it.instances.peak_memory_bytes
        }),
        ("yardarm_plugin_log_lines_dropped_total", "counter", "Log lines dropped beyond the limit.", |it| {
            it.log_lines_dropped
        }),
        (
            "yardarm_plugin_guest_metrics_refused_total",
            "counter",
            "Observations of the guest beyond its limits.",
            |it| it.guest_refused,
        ),
    ] {
        header(out, name, kind, help);
        for plugin in plugins {
            line(out, name, &[("plugin", &plugin.plugin)], value(plugin));
        }
    }
    header(out, "yardarm_plugin_swaps_total", "counter", "Plans activated.");
    line(out, "yardarm_plugin_swaps_total", &[("result", "ok")], folder.swaps);
    line(out, "yardarm_plugin_swaps_total", &[("result", "refused")], folder.refusals);
    header(out, "yardarm_plugin_folder_usable", "gauge", "1 while plugins can be loaded from the whole plugin folder.");
    line(out, "yardarm_plugin_folder_usable", &[], u8::from(folder.trouble.is_none()));
    header(out, "yardarm_plugin_files", "gauge", "Plugins by the state of their newest files.");
    let refused = folder.plugins.iter().filter(|plugin| plugin.refused.is_some()).count();
    line(out, "yardarm_plugin_files", &[("result", "refused")], refused);
    line(out, "yardarm_plugin_files", &[("result", "ok")], folder.plugins.len() - refused);
    header(out, "yardarm_plugin_plan_generation", "gauge", "Generation of the active plan.");
    line(out, "yardarm_plugin_plan_generation", &[], folder.generation);
    guests(out, plugins);
}

/// Appends the metrics that guests define, under a prefix per plugin.
fn guests(out: &mut String, plugins: &[PluginMetrics]) {
    for plugin in plugins {
        let prefix = format!("yardarm_guest_{}_", plugin.plugin.replace('-', "_"));
        for series in &plugin.guest {
            let name = format!("{prefix}{}", series.name);
            let labels: Vec<_> = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            match &series.value {
                GuestValue::Counter(count) => line(out, &name, &labels, count),
                GuestValue::Gauge(value) => line(out, &name, &labels, value),
                GuestValue::Summary { count, sum } => {
                    line(out, &format!("{name}_count"), &labels, count);
                    line(out, &format!("{name}_sum"), &labels, sum);
                }
            }
        }
    }
}

fn histogram(out: &mut String, name: &str, labels: &[(&str, &str)], buckets: &[u64], sum: f64) {
    let bucket = format!("{name}_bucket");
    let mut total = 0;
    for (count, bound) in buckets.iter().zip(CALL_SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()])) {
        total += count;
        let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
        line(out, &bucket, &labels, total);
    }
    line(out, &format!("{name}_sum"), labels, sum);
    line(out, &format!("{name}_count"), labels, total);
}

fn header(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        for (index, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(out, "{}{name}=\"{value}\"", if index > 0 { "," } else { "" });
        }
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}
