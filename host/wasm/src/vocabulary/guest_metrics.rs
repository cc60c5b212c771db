//! Metrics of guests: a bounded number of series under the plugin's own prefix.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Maximum number of series per plugin; further ones are rejected and counted.
const MOST_SERIES: usize = 30;
/// Maximum number of labels per series.
const MOST_LABELS: usize = 4;
/// Maximum length of a name or of a label's value in bytes.
const LONGEST_NAME: usize = 64;

/// Names and values.
pub(crate) type Labels = Vec<(String, String)>;

/// The metrics of one plugin, kept across its generations.
#[derive(Debug, Default)]
pub(crate) struct GuestMetrics {
    series: Mutex<BTreeMap<(String, Labels), GuestValue>>,
    refused: AtomicU64,
}

/// One series of a guest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuestSeries {
    /// Name without prefix: letters, digits and underscores.
    pub name: String,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// Kind and value.
    pub value: GuestValue,
}

/// The value of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GuestValue {
    /// A value that only grows.
    Counter(u64),
    /// A value that can grow and shrink.
    Gauge(f64),
    /// Number and sum of observations.
    Summary {
        /// Number of observations.
        count: u64,
        /// Sum of observations.
        sum: f64,
    },
}

impl GuestMetrics {
    /// Returns all series, sorted.
    pub(crate) fn series(&self) -> Vec<GuestSeries> {
        let series = self.series.lock();
        let one = |((name, labels), value): (&(String, Labels), &GuestValue)| GuestSeries {
            name: name.clone(),
            labels: labels.clone(),
            value: *value,
        };
        series.iter().map(one).collect()
    }

    /// Returns the number of rejected observations.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Updates or creates a series; `change` returns whether the series has the right kind. All series of a name have the
    /// kind of the first.
    pub(crate) fn update(
        &self,
        name: String,
        mut labels: Labels,
        first: GuestValue,
        change: impl Fn(&mut GuestValue) -> bool,
    ) {
        labels.sort();
        let fine = is_name(&name)
            && labels.len() <= MOST_LABELS
            && labels.iter().all(|(key, value)| is_name(key) && value.len() <= LONGEST_NAME)
            && labels.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let mut series = self.series.lock();
        let room = series.len() < MOST_SERIES;
        let same_name = series.range((name.clone(), Labels::new())..).next().filter(|it| it.0.0 == name);
        let done = fine
            && same_name.is_none_or(|it| discriminant(it.1) == discriminant(&first))
            && match series.entry((name, labels)) {
                std::collections::btree_map::Entry::Occupied(mut entry) => change(entry.get_mut()),
                std::collections::btree_map::Entry::Vacant(entry) if room => change(entry.insert(first)),
                std::collections::btree_map::Entry::Vacant(_) => false,
            };
        if !done {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && name.len() <= LONGEST_NAME && name.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_labels_fill_thirty_series_and_no_more() {
        let metrics = GuestMetrics::default();
        for n in 0..100 {
            let labels = vec![("user".to_owned(), n.to_string())];
            metrics.update("seen".into(), labels, GuestValue::Gauge(0.0), |_| true);
        }
        assert_eq!(metrics.series().len(), MOST_SERIES);
        assert_eq!(metrics.refused(), 70);
        metrics.update("bad name".into(), vec![], GuestValue::Gauge(0.0), |_| true);
        assert_eq!(metrics.refused(), 71);
    }

    #[test]
    fn a_name_has_one_kind() {
        let metrics = GuestMetrics::default();
        let label = |value: &str| vec![("at".to_owned(), value.to_owned())];
        for (name, labels, value) in [
            ("seen", label("a"), GuestValue::Gauge(0.0)),
            ("seen", label("b"), GuestValue::Counter(0)),
            ("seen", label("b"), GuestValue::Gauge(0.0)),
            ("see", vec![], GuestValue::Counter(0)),
            ("seen_", vec![], GuestValue::Summary { count: 0, sum: 0.0 }),
        ] {
            metrics.update(name.into(), labels, value, |_| true);
        }
        let names: Vec<_> = metrics.series().into_iter().map(|it| it.name).collect();
        assert_eq!((names, metrics.refused()), (["see", "seen", "seen", "seen_"].map(str::to_owned).into(), 1));
    }
}
