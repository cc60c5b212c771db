//! The standard variables that decide what is exported; the exporters read the others themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::OtlpProtocol;

/// Time between two exports of metrics unless a variable sets it.
const METRIC_INTERVAL: Duration = Duration::from_secs(60);
/// Range of the time that a variable can set.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The signals, as variables name them.
const SIGNALS: [&str; 3] = ["TRACES", "LOGS", "METRICS"];

/// The variables whose names begin with `OTEL_`. Some contain secrets, so it does not implement `Debug`.
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Returns those of the process. Empty ones count as not set, as the standard demands.
    pub(super) fn of_process() -> Self {
        Self::of(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        let is_ours = |(name, value): &(String, String)| name.starts_with("OTEL_") && !value.trim().is_empty();
        Self(variables.filter(is_ours).map(|(name, value)| (name, value.trim().to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether `OTEL_SDK_DISABLED` turns everything off.
    pub(super) fn is_disabled(&self) -> bool {
        self.get("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
    }

    /// Whether a signal is exported as far as variables decide: `OTEL_TRACES_EXPORTER` and the like are `otlp` or `none`.
    pub(super) fn is_exported(&self, signal: &str) -> bool {
        self.exporter(signal).is_none_or(|it| !it.eq_ignore_ascii_case("none"))
    }

    fn exporter(&self, signal: &str) -> Option<&str> {
        self.get(&format!("OTEL_{signal}_EXPORTER"))
    }

    /// Returns the protocol for a signal; `None` unless a variable sets one.
    pub(super) fn protocol(&self, signal: &str) -> Option<OtlpProtocol> {
        let own = self.get(&format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")).and_then(protocol_of);
        own.or_else(|| self.get("OTEL_EXPORTER_OTLP_PROTOCOL").and_then(protocol_of))
    }

    /// Returns the time between two exports of metrics.
    pub(super) fn metric_interval(&self) -> Duration {
        let set = self.get("OTEL_METRIC_EXPORT_INTERVAL").and_then(|it| it.parse().ok()).map(Duration::from_millis);
        set.filter(|it| !it.is_zero()).map_or(METRIC_INTERVAL, |it| it.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL))
    }

    /// Returns what is wrong with variables. Such variables are ignored, as the standard demands.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for signal in SIGNALS {
            if let Some(exporter) = self.exporter(signal).filter(|it| !["otlp", "none"].contains(it)) {
                warnings
                    .push(format!("OTEL_{signal}_EXPORTER is `{exporter}`, which is ignored; use `otlp` or `none`"));
            }
        }
        let protocols = SIGNALS.map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"));
        for name in protocols.iter().map(String::as_str).chain(["OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            if let Some(protocol) = self.get(name).filter(|it| protocol_of(it).is_none()) {
                warnings.push(format!("{name} is `{protocol}`, which is ignored; use `grpc` or `http/protobuf`"));
            }
        }
        let interval = self.get("OTEL_METRIC_EXPORT_INTERVAL");
        if let Some(interval) = interval.filter(|it| it.parse::<u64>().is_err()) {
            warnings.push(format!("OTEL_METRIC_EXPORT_INTERVAL is `{interval}`, which is ignored; use milliseconds"));
        }
        warnings
    }
}

/// Returns the protocol of this name. `http` is the name that LaunchDarkly's relay has for it.
fn protocol_of(name: &str) -> Option<OtlpProtocol> {
    match name.to_ascii_lowercase().as_str() {
        "grpc" => Some(OtlpProtocol::Grpc),
        "http/protobuf" | "http" => Some(OtlpProtocol::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> Variables {
        Variables::of(set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn v043_a_signal_is_exported_unless_a_variable_turns_it_off() {
        let none = variables(&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "OTLP"), ("OTHER", "x")]);
        assert_eq!(SIGNALS.map(|it| none.is_exported(it)), [false, true, true]);
        let unknown = variables(&[("OTEL_METRICS_EXPORTER", "console"), ("OTEL_TRACES_EXPORTER", " ")]);
        assert_eq!(SIGNALS.map(|it| unknown.is_exported(it)), [true, true, true]);
        assert_eq!(unknown.warnings().len(), 1, "{:?}", unknown.warnings());
        assert!(variables(&[("OTEL_SDK_DISABLED", "True")]).is_disabled());
        assert!(!variables(&[("OTEL_SDK_DISABLED", "1")]).is_disabled());
    }

    #[test]
    fn v043_the_protocol_of_a_signal_comes_before_that_of_all() {
        let both = variables(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ]);
        let protocols = SIGNALS.map(|it| both.protocol(it));
        assert_eq!(protocols, [Some(OtlpProtocol::Http), Some(OtlpProtocol::Grpc), Some(OtlpProtocol::Http)]);
        assert_eq!(both.warnings().len(), 1, "{:?}", both.warnings());
        assert_eq!(variables(&[]).protocol("LOGS"), None);
    }

    #[test]
    fn v043_the_interval_of_metrics_is_milliseconds() {
        for (text, seconds) in [("5000", 5.0), ("1", 0.1), ("0", 60.0), ("often", 60.0), ("", 60.0)] {
            let interval = variables(&[("OTEL_METRIC_EXPORT_INTERVAL", text)]).metric_interval();
            assert_eq!(interval, Duration::from_secs_f64(seconds), "{text}");
        }
    }
}
