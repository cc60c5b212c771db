//! Translates the section `[OpenTelemetry]` (V043). Its variables are standard ones, most of which the exporters read as well.

use yardarm_core::settings::ValueSource;

use super::Translation;
use super::merge::{Set, Settings};
use super::table::Section;
use super::values::Value;

/// Most series of a metric that can be set.
const MOST_SERIES: u64 = 20_000;

impl Translation {
    /// Translates what the table does not.
    pub(super) fn telemetry(&mut self, settings: &Settings) {
        if !settings.is_on(Section::OpenTelemetry, "enabled") {
            return;
        }
        // The exporters read the variable themselves, and those of single signals, which come before it.
        let protocol = settings.text(Section::OpenTelemetry, "protocol");
        if let Some((protocol, source)) = protocol.filter(|(_, source)| !matches!(source, ValueSource::Variable(_))) {
            match protocol.to_ascii_lowercase().as_str() {
                "grpc" => self.set("telemetry.protocol", source, "grpc"),
                "http" | "http/protobuf" => self.set("telemetry.protocol", source, "http/protobuf"),
                _ => self.warnings.push(format!("protocol ({source}) is ignored: use `grpc` or `http`")),
            }
        }
        if let Some(Set { value: Value::Number(limit), source }) =
            settings.get(Section::OpenTelemetry, "metricsCardinalityLimit")
        {
            self.set("telemetry.metrics_cardinality_limit", source, limit.min(&MOST_SERIES).to_string());
        }
        for (name, key) in [
            ("logsExporter", "telemetry.logs"),
            ("tracesExporter", "telemetry.traces"),
            ("metricsExporter", "telemetry.metrics"),
        ] {
            let exporter = settings.text(Section::OpenTelemetry, name);
            if let Some((exporter, source)) = exporter.filter(|(_, source)| !matches!(source, ValueSource::Variable(_)))
            {
                match exporter.to_ascii_lowercase().as_str() {
                    "otlp" => self.set(key, source, "true"),
                    "none" => self.set(key, source, "false"),
                    _ => self
                        .warnings
                        .push(format!("{name} ({source}) is `{exporter}`, which is ignored; use `otlp` or `none`")),
                }
            }
        }
    }
}
