//! Samples of one request for metrics, and their text.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::proto::{self, Bucket, Histogram, LabelPair, MetricFamily, MetricType, Summary};

use super::{Kind, Metric};

/// Samples by metric and labels. Samples of a counter with the same labels are added; of other kinds, the last one counts.
/// A metric without samples is absent.
#[derive(Debug, Default)]
pub struct Families(BTreeMap<String, Family>);

/// What the names of series of summaries and histograms end in.
const PARTS: [&str; 3] = ["_sum", "_count", "_bucket"];

#[derive(Debug)]
struct Family {
    help: String,
    kind: MetricType,
    series: BTreeMap<Labels, proto::Metric>,
}

/// Names and values, sorted by name.
type Labels = Vec<(String, String)>;

/// A number that a sample can have.
pub trait Number {
    /// Returns the number as metrics have it; beyond 2^53 it is rounded.
    fn into_f64(self) -> f64;
}

impl Families {
    /// Adds the sample of a counter or a gauge.
    pub fn sample(&mut self, metric: &Metric<'_>, labels: &[&str], value: impl Number) {
        debug_assert!(matches!(metric.kind, Kind::Counter | Kind::Gauge), "{}", metric.name);
        let Some(series) = self.series(metric, labels) else { return };
        if metric.kind == Kind::Counter {
            let mut counter = series.get_counter().clone();
            counter.set_value(counter.get_value() + value.into_f64());
            series.set_counter(counter);
        } else {
            let mut gauge = series.get_gauge().clone();
            gauge.set_value(value.into_f64());
            series.set_gauge(gauge);
        }
    }

    /// Adds the sample of a histogram: upper bounds of its buckets, number of observations in each and at last beyond all
    /// (not cumulative), and sum of the observations.
    pub fn histogram(&mut self, metric: &Metric<'_>, labels: &[&str], bounds: &[f64], counts: &[u64], sum: f64) {
        debug_assert_eq!((metric.kind, counts.len()), (Kind::Histogram, bounds.len() + 1), "{}", metric.name);
        let Some(series) = self.series(metric, labels) else { return };
        let mut total = 0;
        let bucket = |(count, bound): (&u64, &f64)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(counts.iter().zip(bounds).map(bucket).collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        series.set_histogram(histogram);
    }

    /// Adds the sample of a summary: number and sum of the observations.
    pub fn summary(&mut self, metric: &Metric<'_>, labels: &[&str], count: u64, sum: f64) {
        debug_assert_eq!(metric.kind, Kind::Summary, "{}", metric.name);
        let Some(series) = self.series(metric, labels) else { return };
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(sum);
        series.set_summary(summary);
    }

    /// Adds the current samples of metrics that are recorded as events occur.
    pub fn collect(&mut self, recorded: &impl Collector) {
        for mut family in recorded.collect() {
            for mut sample in family.take_metric() {
                let labels =
                    sample.take_label().iter().map(|it| (it.name().to_owned(), it.value().to_owned())).collect();
                if let Some(series) = self.entry(family.name(), family.help(), family.get_field_type(), labels) {
                    *series = sample;
                }
            }
        }
    }

    /// Returns all samples in the text format of Prometheus, sorted by name and labels.
    #[must_use]
    pub fn encode(self) -> String {
        let families: Vec<_> = self.0.into_iter().map(|(name, family)| family.into_proto(name)).collect();
        // Fails only for a family without a name or without samples.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn series(&mut self, metric: &Metric<'_>, labels: &[&str]) -> Option<&mut proto::Metric> {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let pair = |(name, value): (&&str, &&str)| ((*name).to_owned(), (*value).to_owned());
        let mut labels: Labels = metric.labels.iter().zip(labels).map(pair).collect();
        labels.sort();
        self.entry(metric.name, metric.help, metric.kind.into(), labels)
    }

    /// Returns the sample with these labels; `None` if the name has another kind already, because a name has one kind, or
    /// if the text would have a series twice.
    fn entry(&mut self, name: &str, help: &str, kind: MetricType, labels: Labels) -> Option<&mut proto::Metric> {
        if !self.0.contains_key(name) && self.has_series_of(name, kind) {
            return None;
        }
        let family = self.0.entry(name.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
        });
        (family.kind == kind).then(|| family.series.entry(labels).or_default())
    }

    /// Returns whether another family has series with the names that this one would have in the text: a summary `a` has
    /// the series `a_sum` and `a_count`.
    fn has_series_of(&self, name: &str, kind: MetricType) -> bool {
        let is_composite = |kind| matches!(kind, MetricType::SUMMARY | MetricType::HISTOGRAM);
        let is_part = |suffix: &&str| {
            let whole = name.strip_suffix(suffix).and_then(|whole| self.0.get(whole));
            whole.is_some_and(|family| is_composite(family.kind))
        };
        let has_part = |suffix: &&str| is_composite(kind) && self.0.contains_key(&format!("{name}{suffix}"));
        PARTS.iter().any(|suffix| is_part(suffix) || has_part(suffix))
    }
}

impl Family {
    fn into_proto(self, name: String) -> MetricFamily {
        let pair = |(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name);
            pair.set_value(value);
            pair
        };
        let sample = |(labels, mut sample): (Labels, proto::Metric)| {
            sample.set_label(labels.into_iter().map(pair).collect());
            sample
        };
        let mut family = MetricFamily::default();
        family.set_name(name);
        family.set_help(self.help);
        family.set_field_type(self.kind);
        family.set_metric(self.series.into_iter().map(sample).collect());
        family
    }
}

impl From<Kind> for MetricType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::COUNTER,
            Kind::Gauge => Self::GAUGE,
            Kind::Histogram => Self::HISTOGRAM,
            Kind::Summary => Self::SUMMARY,
        }
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            fn into_f64(self) -> f64 {
                self as f64
            }
        })*
    };
}

numbers!(f64, i64, u64, usize);

impl Number for bool {
    fn into_f64(self) -> f64 {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_labels_are_sorted() {
        let mut families = Families::default();
        families.sample(&Metric::gauge("z", &["b", "a"], "Last."), &["2", "1"], true);
        let open = Metric::gauge("open", &[], "Open.");
        families.sample(&open, &[], 7_u64);
        families.sample(&open, &[], -2_i64);
        let bytes = Metric::counter("bytes_total", &["to"], "Bytes.");
        families.sample(&bytes, &["b"], 4_usize);
        families.sample(&bytes, &["a"], 1_u64);
        families.sample(&bytes, &["b"], 0.5);
        let expected = "# HELP bytes_total Bytes.\n# TYPE bytes_total counter\nbytes_total{to=\"a\"} 1\n\
                        bytes_total{to=\"b\"} 4.5\n# HELP open Open.\n# TYPE open gauge\nopen -2\n\
                        # HELP z Last.\n# TYPE z gauge\nz{a=\"1\",b=\"2\"} 1\n";
        assert_eq!(families.encode(), expected);
    }

    #[test]
    fn no_series_is_in_the_text_twice() {
        let (size, count) = (Metric { kind: Kind::Summary, ..Metric::gauge("size", &[], "Size.") }, "size_count");
        let (count, sum) = (Metric::counter(count, &[], "Count."), Metric::gauge("size_sum", &[], "Sum."));
        let mut families = Families::default();
        families.summary(&size, &[], 2, 1.5);
        families.sample(&count, &[], 7_u64);
        families.sample(&sum, &[], 7_u64);
        assert_eq!(families.encode(), "# HELP size Size.\n# TYPE size summary\nsize_sum 1.5\nsize_count 2\n");
        // The first of them stays.
        let mut families = Families::default();
        families.sample(&count, &[], 7_u64);
        families.summary(&size, &[], 2, 1.5);
        assert_eq!(families.encode(), "# HELP size_count Count.\n# TYPE size_count counter\nsize_count 7\n");
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut families = Families::default();
        let seconds = Metric::histogram("seconds", &["vm", "hook"], "Seconds.");
        families.histogram(&seconds, &["x", "y"], &[1e-6, 0.5], &[1, 2, 4], 9.25);
        let expected = r#"# HELP seconds Seconds.
# TYPE seconds histogram
seconds_bucket{hook="y",vm="x",le="0.000001"} 1
seconds_bucket{hook="y",vm="x",le="0.5"} 3
seconds_bucket{hook="y",vm="x",le="+Inf"} 7
seconds_sum{hook="y",vm="x"} 9.25
seconds_count{hook="y",vm="x"} 7
"#;
        assert_eq!(families.encode(), expected);
    }

    #[test]
    fn a_summary_has_count_and_sum() {
        let mut families = Families::default();
        let metric = Metric { name: "cost", kind: Kind::Summary, labels: &["at"], help: "" };
        families.summary(&metric, &["x"], 2, 1.5);
        assert_eq!(families.encode(), "# TYPE cost summary\ncost_sum{at=\"x\"} 1.5\ncost_count{at=\"x\"} 2\n");
    }

    #[test]
    fn a_name_has_one_kind() {
        let mut families = Families::default();
        families.sample(&Metric::gauge("x", &[], "First."), &[], 1_u64);
        families.sample(&Metric::counter("x", &[], "Second."), &[], 5_u64);
        assert_eq!(families.encode(), "# HELP x First.\n# TYPE x gauge\nx 1\n");
    }

    #[test]
    fn label_values_are_escaped() {
        let mut families = Families::default();
        let metric = Metric::counter("x_total", &["agent"], "Back\\slash.");
        families.sample(&metric, &["a\"b\\c\nd{e=\"f\",}é"], 1_u64);
        let sample = r#"x_total{agent="a\"b\\c\nd{e=\"f\",}é"} 1"#;
        assert_eq!(families.encode(), format!("# HELP x_total Back\\\\slash.\n# TYPE x_total counter\n{sample}\n"));
    }

    #[test]
    fn recorded_metrics_are_collected() {
        const SECONDS: Metric = Metric::histogram("seconds", &["route"], "Seconds.");
        const REQUESTS: Metric = Metric::counter("requests_total", &["route", "code"], "Requests.");
        let (seconds, requests) = (SECONDS.histograms(&[1.0]), REQUESTS.counters());
        let mut families = Families::default();
        families.collect(&requests);
        assert_eq!(families.encode(), "", "a metric without samples is absent");
        seconds.with_label_values(&["a"]).observe(0.25);
        seconds.with_label_values(&["a"]).observe(2.0);
        requests.with_label_values(&["b", "200"]).inc();
        requests.with_label_values(&["a", "404"]).inc();
        let mut families = Families::default();
        families.collect(&seconds);
        families.collect(&requests);
        let expected = r#"# HELP requests_total Requests.
# TYPE requests_total counter
requests_total{code="200",route="b"} 1
requests_total{code="404",route="a"} 1
# HELP seconds Seconds.
# TYPE seconds histogram
seconds_bucket{route="a",le="1"} 1
seconds_bucket{route="a",le="+Inf"} 2
seconds_sum{route="a"} 2.25
seconds_count{route="a"} 2
"#;
        assert_eq!(families.encode(), expected);
    }
}
