//! Sums up metrics: equal metrics become one with their total count; of several entries about one target the last is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use yardarm_harness_eval::model::or_default;

/// Distinct metrics between two posts to upstream.
const MAX_METRICS: usize = 10_000;
/// Distinct targets between two posts to upstream.
const MAX_TARGETS: usize = 20_000;
/// Bytes of all entries between two posts; callers choose their content.
const MAX_BYTES: usize = 8 << 20;
/// Bytes from which on entries are posted before their time, as in version 2 of the vendor's relay.
const LARGE: usize = 1 << 20;
/// The target of a metric that several targets have contributed to.
const GLOBAL_TARGET: &str = "global";

/// The entries since the last post to upstream.
#[derive(Default)]
pub(super) struct Sums {
    metrics: BTreeMap<MetricKey, Metric>,
    /// By identifier, with the length of each.
    targets: BTreeMap<String, (TargetEntry, usize)>,
    bytes: usize,
    /// Number of entries of SDKs that were summed up.
    entry_count: usize,
}

/// Summed-up metrics, ready to be posted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Batch {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics_data: Vec<Metric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target_data: Vec<TargetEntry>,
    /// Number of entries of SDKs that were summed up in it.
    #[serde(skip)]
    pub(super) entry_count: usize,
}

/// The properties by which metrics are equal (F039).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MetricKey {
    flag: String,
    variation: String,
    language: String,
    version: String,
}

/// An entry of `metricsData`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metric {
    #[serde(default, deserialize_with = "or_default")]
    timestamp: i64,
    #[serde(default, deserialize_with = "or_default")]
    count: u64,
    #[serde(default = "usual_type", deserialize_with = "type_or_usual")]
    metrics_type: String,
    #[serde(default, deserialize_with = "or_default")]
    attributes: Vec<Attribute>,
}

/// A named text.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Attribute {
    #[serde(default, deserialize_with = "or_default")]
    key: String,
    /// Some SDKs send `null` if there is no target.
    #[serde(default, deserialize_with = "text")]
    value: String,
}

/// An entry of `targetData`, forwarded with every property it came with. Harness requires those named here, and may reject a
/// whole post for one entry in which they are missing or of another type.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TargetEntry {
    identifier: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    attributes: Vec<Attribute>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The property that distinguishes the kinds of entries.
#[derive(Deserialize)]
struct EntryKind {
    #[serde(default, rename = "identifier", deserialize_with = "is_present")]
    is_target: bool,
}

#[derive(Deserialize)]
struct Timestamp {
    #[serde(default)]
    timestamp: Option<f64>,
}

/// Returns the timestamp of an entry in Unix milliseconds; 0 if there is none.
pub(super) fn timestamp(json: &str) -> Option<u64> {
    // A time out of range saturates; plugins use it as a hint only.
    serde_json::from_str::<Timestamp>(json).ok()?.timestamp.map(|it| it as u64)
}

/// Returns whether an entry is counted as a target.
pub(super) fn is_target(json: &[u8]) -> bool {
    serde_json::from_slice::<EntryKind>(json).is_ok_and(|entry| entry.is_target)
}

impl Sums {
    /// Adds an entry; `Err` is the reason why it is dropped.
    pub(super) fn add(&mut self, json: &[u8]) -> Result<(), &'static str> {
        if !json.starts_with(b"{") {
            return Err("malformed");
        }
        let entry: EntryKind = serde_json::from_slice(json).map_err(|_| "malformed")?;
        let added = if entry.is_target { self.add_target(json) } else { self.add_metric(json) };
        added?;
        self.entry_count += 1;
        Ok(())
    }

    /// Returns whether there is enough to be posted before its time.
    pub(super) fn is_large(&self) -> bool {
        self.bytes >= LARGE
    }

    fn add_metric(&mut self, json: &[u8]) -> Result<(), &'static str> {
        let metric: Metric = serde_json::from_slice(json).map_err(|_| "malformed")?;
        let key = MetricKey::of(&metric);
        if let Some(known) = self.metrics.get_mut(&key) {
            known.count = known.count.saturating_add(metric.count);
            known.absorb_target(&metric);
            return Ok(());
        }
        if self.metrics.len() >= MAX_METRICS || self.bytes + json.len() > MAX_BYTES {
            return Err("too-many-metrics");
        }
        self.bytes += json.len();
        self.metrics.insert(key, metric);
        Ok(())
    }

    fn add_target(&mut self, json: &[u8]) -> Result<(), &'static str> {
        let entry: TargetEntry = serde_json::from_slice(json).map_err(|_| "malformed")?;
        if entry.identifier.is_empty() {
            return Err("malformed");
        }
        let before = self.targets.get(&entry.identifier).map(|it| it.1);
        let is_full = before.is_none() && self.targets.len() >= MAX_TARGETS;
        let bytes = self.bytes - before.unwrap_or(0) + json.len();
        if is_full || bytes > MAX_BYTES {
            return Err("too-many-targets");
        }
        self.bytes = bytes;
        self.targets.insert(entry.identifier.clone(), (entry, json.len()));
        Ok(())
    }

    /// Takes everything out; `None` if there is nothing.
    pub(super) fn take(&mut self) -> Option<Batch> {
        let Self { metrics, targets, entry_count, .. } = std::mem::take(self);
        (entry_count > 0).then(|| Batch {
            metrics_data: metrics.into_values().collect(),
            target_data: targets.into_values().map(|it| it.0).collect(),
            entry_count,
        })
    }
}

impl MetricKey {
    fn of(metric: &Metric) -> Self {
        let attribute = |name: &str| metric.attribute(name).unwrap_or_default().to_owned();
        Self {
            // Some older SDKs send only the second name.
            flag: metric
                .attribute("featureIdentifier")
                .or_else(|| metric.attribute("featureName"))
                .unwrap_or_default()
                .to_owned(),
            variation: attribute("variationIdentifier"),
            language: attribute("SDK_LANGUAGE"),
            version: attribute("SDK_VERSION"),
        }
    }
}

impl Metric {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|it| it.key == name).map(|it| it.value.as_str())
    }

    /// Notes a further target of a metric. A metric of several targets belongs to none of them.
    fn absorb_target(&mut self, other: &Self) {
        let theirs = other.attribute("target");
        if let Some(mine) = self.attributes.iter_mut().find(|it| it.key == "target")
            && theirs != Some(mine.value.as_str())
        {
            GLOBAL_TARGET.clone_into(&mut mine.value);
        }
    }
}

/// Returns the only type that Harness knows.
fn usual_type() -> String {
    "FFMETRICS".to_owned()
}

fn type_or_usual<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(usual_type))
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Reads a text; `null` is an empty one, and a number is read as its digits.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metric(flag: &str, target: Value, count: u64) -> Vec<u8> {
        let attributes = json!([
            {"key": "featureIdentifier", "value": flag}, {"key": "variationIdentifier", "value": "true"},
            {"key": "SDK_LANGUAGE", "value": "javascript"}, {"key": "SDK_VERSION", "value": "1.8"},
            {"key": "target", "value": target}]);
        json!({"timestamp": 5, "count": count, "metricsType": "FFMETRICS", "attributes": attributes}).to_string().into()
    }

    fn taken(entries: &[Vec<u8>]) -> Value {
        let mut sums = Sums::default();
        for entry in entries {
            sums.add(entry).unwrap();
        }
        let batch = sums.take().unwrap();
        assert_eq!(batch.entry_count, entries.len());
        assert!(sums.take().is_none());
        serde_json::to_value(batch).unwrap()
    }

    #[test]
    fn equal_metrics_are_summed_up() {
        // F039
        let batch = taken(&[metric("a", json!("ada"), 2), metric("b", json!(null), 1), metric("a", json!("ada"), 3)]);
        let rendered: Vec<_> = batch["metricsData"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["attributes"][0]["value"].clone(), it["attributes"][4]["value"].clone(), it["count"].clone()))
            .collect();
        assert_eq!(rendered, [(json!("a"), json!("ada"), json!(5)), (json!("b"), json!(""), json!(1))]);
        assert!(batch.get("targetData").is_none(), "F040: absent arrays are left out");
        let batch = taken(&[metric("a", json!("ada"), 1), metric("a", json!("eve"), 1)]);
        assert_eq!(batch["metricsData"][0]["attributes"][4]["value"], "global");
    }

    #[test]
    fn each_target_is_kept_once_with_all_its_properties() {
        let target =
            |name: &str| json!({"identifier": "ada", "name": name, "attributes": [], "x": 1}).to_string().into_bytes();
        let batch = taken(&[target("old"), target("new")]);
        assert_eq!(batch, json!({"targetData": [{"identifier": "ada", "name": "new", "attributes": [], "x": 1}]}));
    }

    #[test]
    fn missing_and_null_properties_drop_no_entry() {
        let entry = |value: Value| value.to_string().into_bytes();
        let batch = taken(&[
            entry(json!({"identifier": "ada"})),
            entry(json!({"identifier": "eve", "name": null, "attributes": null})),
            entry(json!({"timestamp": null, "count": null, "metricsType": null, "attributes": null})),
            entry(json!({"count": 2, "attributes": [{"key": null, "value": 1}]})),
        ]);
        assert_eq!(
            batch["targetData"],
            json!([
                {"identifier": "ada", "name": "", "attributes": []},
                {"identifier": "eve", "name": "", "attributes": []},
            ])
        );
        let metric = &batch["metricsData"][0];
        assert_eq!((&metric["count"], &metric["metricsType"]), (&json!(2), &json!("FFMETRICS")), "{batch}");
    }

    #[test]
    fn sums_are_bounded() {
        let mut sums = Sums::default();
        let target =
            |name: &str, length: usize| json!({"identifier": name, "x": "x".repeat(length)}).to_string().into_bytes();
        assert_eq!(sums.add(&target("a", 10)), Ok(()));
        assert!(!sums.is_large());
        assert_eq!(sums.add(&target("b", 10)), Ok(()));
        assert_eq!(sums.add(&target("a", 5 << 20)), Ok(()));
        assert!(sums.is_large());
        assert_eq!(sums.add(&target("b", 5 << 20)), Err("too-many-targets"), "also in place of a small one");
        assert_eq!(sums.add(&target("a", 10)), Ok(()));
        assert_eq!(sums.add(&target("b", 5 << 20)), Ok(()), "there is room again");
        let large = metric(&"f".repeat(4 << 20), json!("ada"), 1);
        assert_eq!(sums.add(&large), Err("too-many-metrics"));
        assert_eq!(sums.take().unwrap().entry_count, 5);
        assert_eq!(sums.add(&large), Ok(()));
    }

    #[test]
    fn entries_that_cannot_be_read_are_dropped_with_a_reason() {
        let mut sums = Sums::default();
        for entry in [
            "7",
            "[]",
            r#"{"attributes":7}"#,
            r#"{"count":-1}"#,
            r#"{"metricsType":7}"#,
            r#"{"identifier":null}"#,
            r#"{"identifier":""}"#,
            r#"{"identifier":7}"#,
            r#"{"identifier":"ada","name":7}"#,
            r#"{"identifier":"ada","attributes":{}}"#,
            r#"{"identifier":"ada","attributes":["x"]}"#,
        ] {
            assert_eq!(sums.add(entry.as_bytes()), Err("malformed"), "{entry}");
        }
        assert!(sums.take().is_none());
    }
}
