//! The declaration of a metric, and the document of declarations.

use std::fmt::Write;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

/// The declaration of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric<'a> {
    /// Name; that of a counter ends in `_total`, unless a vendor's name is kept.
    pub name: &'a str,
    /// Kind.
    pub kind: Kind,
    /// Names of the labels, in the order in which samples pass their values.
    pub labels: &'a [&'a str],
    /// Meaning, with the unit.
    pub help: &'a str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that can grow and shrink.
    Gauge,
    /// Numbers of observations up to some bounds, and their sum.
    Histogram,
    /// Number and sum of observations.
    Summary,
}

impl<'a> Metric<'a> {
    /// Declares a counter.
    #[must_use]
    pub const fn counter(name: &'a str, labels: &'a [&'a str], help: &'a str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// Declares a gauge.
    #[must_use]
    pub const fn gauge(name: &'a str, labels: &'a [&'a str], help: &'a str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// Declares a histogram.
    #[must_use]
    pub const fn histogram(name: &'a str, labels: &'a [&'a str], help: &'a str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }

    /// Creates counters at zero for events that are counted as they occur.
    ///
    /// # Panics
    /// When the declaration is not valid.
    #[must_use]
    pub fn counters(&self) -> IntCounterVec {
        debug_assert_eq!(self.kind, Kind::Counter, "{}", self.name);
        IntCounterVec::new(Opts::new(self.name, self.help), self.labels).expect("a valid metric")
    }

    /// Creates histograms with these upper bounds for values that are observed as they occur.
    ///
    /// # Panics
    /// When the declaration is not valid, or the bounds do not ascend.
    #[must_use]
    pub fn histograms(&self, bounds: &[f64]) -> HistogramVec {
        debug_assert_eq!(self.kind, Kind::Histogram, "{}", self.name);
        let options = HistogramOpts::new(self.name, self.help).buckets(bounds.to_vec());
        HistogramVec::new(options, self.labels).expect("a valid metric")
    }
}

impl Kind {
    /// Returns the name in the text format of Prometheus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Declares metrics as constants, each documented by its meaning, and `ALL` of them in a slice.
///
/// ```
/// yardarm_core::catalog! {
///     OPENED = counter("streams_opened_total", ["route"], "Streams opened.");
/// }
/// assert_eq!(ALL, [OPENED]);
/// ```
#[macro_export]
macro_rules! catalog {
    ($($constant:ident = $kind:ident($name:literal, $labels:expr, $help:literal);)*) => {
        $(#[doc = $help] pub const $constant: $crate::metrics::Metric<'static> =
            $crate::metrics::Metric::$kind($name, &$labels, $help);)*
        /// All metrics that are declared here.
        pub const ALL: &[$crate::metrics::Metric<'static>] = &[$($constant),*];
    };
}

/// Returns declarations as a table in Markdown.
#[must_use]
pub fn table<'a>(metrics: impl IntoIterator<Item = Metric<'a>>) -> String {
    let mut text = String::from("| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, help } in metrics {
        let labels: Vec<_> = labels.iter().map(|it| format!("`{it}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{name}` | {} | {labels} | {help} |", kind.as_str());
    }
    text
}
