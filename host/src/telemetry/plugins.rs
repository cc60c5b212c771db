//! Metrics of plugins, and those that plugins define.

use yardarm_core::metrics::{Families, Kind, Metric, catalog};
use yardarm_wasm::{BreakerState, CALL_SECONDS, FolderStatus, GuestSeries, GuestValue, PluginMetrics};

/// Adds all metrics of this file.
pub(super) fn collect(families: &mut Families, plugins: &[PluginMetrics], folder: &FolderStatus) {
    for plugin in plugins {
        let name = plugin.plugin.as_str();
        calls(families, plugin);
        families.sample(&catalog::PLUGIN_GENERATION, &[name], plugin.generation);
        families.sample(&catalog::PLUGIN_INSTANCES_CREATED, &[name], plugin.instances.created);
        families.sample(&catalog::PLUGIN_INSTANCES_ALIVE, &[name], plugin.instances.alive);
        families.sample(&catalog::PLUGIN_MEMORY_PEAK, &[name], plugin.instances.peak_memory_bytes);
        families.sample(&catalog::PLUGIN_LOG_LINES_DROPPED, &[name], plugin.log_lines_dropped);
        families.sample(&catalog::PLUGIN_REPORTS_DROPPED, &[name], plugin.reports_dropped);
        families.sample(&catalog::PLUGIN_GUEST_METRICS_REFUSED, &[name], plugin.guest_refused);
        families.sample(&catalog::PLUGIN_CHANGES_LEFT_OUT, &[name], plugin.changes_left_out);
        families.sample(&catalog::PLUGIN_KV_UNAVAILABLE, &[name], plugin.kv_unavailable);
        families.sample(&catalog::PLUGIN_CPU_SECONDS, &[name], plugin.cpu_seconds);
        for (reason, count) in &plugin.rollbacks {
            families.sample(&catalog::PLUGIN_ROLLBACKS, &[name, reason.name()], *count);
        }
        if let Some(shadow) = &plugin.shadow {
            let same = shadow.compared - shadow.different;
            for (result, count) in [("same", same), ("different", shadow.different), ("skipped", shadow.skipped)] {
                families.sample(&catalog::PLUGIN_SHADOW_CALLS, &[name, result], count);
            }
            for (field, count) in &shadow.fields {
                families.sample(&catalog::PLUGIN_SHADOW_DIFFERENCES, &[name, field], *count);
            }
        }
        for series in &plugin.guest {
            guest(families, name, series);
        }
    }
    let refused = folder.plugins.iter().filter(|plugin| plugin.refused.is_some()).count();
    families.sample(&catalog::PLUGIN_SWAPS, &["ok"], folder.swaps);
    families.sample(&catalog::PLUGIN_SWAPS, &["refused"], folder.refusals);
    families.sample(&catalog::PLUGIN_FOLDER_USABLE, &[], folder.trouble.is_none());
    families.sample(&catalog::PLUGIN_FILES, &["ok"], folder.plugins.len() - refused);
    families.sample(&catalog::PLUGIN_FILES, &["refused"], refused);
    families.sample(&catalog::PLUGIN_PLAN_GENERATION, &[], folder.generation);
}

/// Adds what is counted per hook.
fn calls(families: &mut Families, plugin: &PluginMetrics) {
    let name = plugin.plugin.as_str();
    for it in &plugin.hooks {
        let labels = [name, it.hook.name()];
        for (outcome, count) in it.outcomes.iter().filter(|(_, count)| *count > 0) {
            families.sample(&catalog::PLUGIN_CALLS, &[name, it.hook.name(), outcome], *count);
        }
        families.histogram(&catalog::PLUGIN_CALL_SECONDS, &labels, &CALL_SECONDS, &it.buckets, it.seconds);
        families.sample(&catalog::PLUGIN_POOL_WAIT, &labels, it.waited_seconds);
    }
    for version in &plugin.generations {
        let generation = version.generation.to_string();
        for hook in &version.hooks {
            for (outcome, count) in hook.outcomes.iter().filter(|(_, count)| *count > 0) {
                let labels = [name, hook.hook.name(), &version.version, &generation, outcome];
                families.sample(&catalog::PLUGIN_VERSION_CALLS, &labels, *count);
            }
        }
    }
    for (hook, busy, idle) in &plugin.pools {
        families.sample(&catalog::PLUGIN_POOL_INSTANCES, &[name, hook.name(), "busy"], *busy);
        families.sample(&catalog::PLUGIN_POOL_INSTANCES, &[name, hook.name(), "idle"], *idle);
    }
    for (hook, state, _) in &plugin.breakers {
        let state: u64 = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        families.sample(&catalog::PLUGIN_BREAKER_STATE, &[name, hook.name()], state);
    }
}

/// Adds a series that a plugin defines.
fn guest(families: &mut Families, plugin: &str, series: &GuestSeries) {
    let name = catalog::guest_name(plugin, &series.name);
    let (labels, values): (Vec<_>, Vec<_>) = series.labels.iter().map(|it| (it.0.as_str(), it.1.as_str())).unzip();
    let metric = |kind| Metric { name: &name, kind, labels: &labels, help: catalog::GUEST_HELP };
    match series.value {
        GuestValue::Counter(count) => families.sample(&metric(Kind::Counter), &values, count),
        GuestValue::Gauge(value) => families.sample(&metric(Kind::Gauge), &values, value),
        GuestValue::Summary { count, sum } => families.summary(&metric(Kind::Summary), &values, count, sum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_guests_have_a_type() {
        let mut families = Families::default();
        let labels = vec![("reason".to_owned(), "token".to_owned())];
        for (name, value) in [
            ("size", GuestValue::Summary { count: 2, sum: 1.5 }),
            ("rules", GuestValue::Gauge(12.5)),
            ("refused_total", GuestValue::Counter(3)),
        ] {
            let series = GuestSeries { name: name.to_owned(), labels: labels.clone(), value };
            guest(&mut families, "request-gate", &series);
        }
        let expected = r#"# HELP yardarm_guest_request_gate_refused_total Defined by the plugin.
# TYPE yardarm_guest_request_gate_refused_total counter
yardarm_guest_request_gate_refused_total{reason="token"} 3
# HELP yardarm_guest_request_gate_rules Defined by the plugin.
# TYPE yardarm_guest_request_gate_rules gauge
yardarm_guest_request_gate_rules{reason="token"} 12.5
# HELP yardarm_guest_request_gate_size Defined by the plugin.
# TYPE yardarm_guest_request_gate_size summary
yardarm_guest_request_gate_size_sum{reason="token"} 1.5
yardarm_guest_request_gate_size_count{reason="token"} 2
"#;
        assert_eq!(families.encode(), expected);
    }
}
