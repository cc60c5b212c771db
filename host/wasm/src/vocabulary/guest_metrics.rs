//! Metrics of guests: a bounded number of series under the plugin's own prefix.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem::discriminant;

use parking_lot::Mutex;
use serde::Serialize;

/// Maximum number of series per generation of a plugin; further ones are rejected and counted.
const MOST_SERIES: usize = 30;
/// Maximum number of labels per series.
const MOST_LABELS: usize = 4;
/// Maximum length of a name or of a label's value in bytes.
const LONGEST_NAME: usize = 64;

/// Names and values.
pub(crate) type Labels = Vec<(String, String)>;

/// The metrics of one generation of a plugin: a new version begins without series, and has room for as many as any other.
#[derive(Debug, Default)]
pub(crate) struct GuestMetrics(Mutex<BTreeMap<(String, Labels), GuestValue>>);

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

/// Why an observation of a guest is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestMetricError {
    InvalidName,
    WrongKind,
    TooManySeries,
    InvalidValue,
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
        let series = self.0.lock();
        let one = |((name, labels), value): (&(String, Labels), &GuestValue)| GuestSeries {
            name: name.clone(),
            labels: labels.clone(),
            value: *value,
        };
        series.iter().map(one).collect()
    }

    /// Adds an observation to its series, which is created first if there is room. All series of a name have the kind of
    /// the first.
    ///
    /// # Errors
    /// Why the observation is rejected.
    pub(crate) fn record(
        &self,
        name: String,
        mut labels: Labels,
        observed: GuestValue,
    ) -> Result<(), GuestMetricError> {
        labels.sort();
        let has_valid_labels = labels.len() <= MOST_LABELS
            && labels.iter().all(|(key, value)| is_name(key) && value.len() <= LONGEST_NAME)
            && labels.windows(2).all(|pair| pair[0].0 != pair[1].0);
        if !is_name(&name) || !has_valid_labels {
            return Err(GuestMetricError::InvalidName);
        }
        if matches!(observed, GuestValue::Gauge(value) | GuestValue::Summary { sum: value, .. } if !value.is_finite()) {
            return Err(GuestMetricError::InvalidValue);
        }
        let mut series = self.0.lock();
        let same_name = series.range((name.clone(), Labels::new())..).next().filter(|it| it.0.0 == name);
        if same_name.is_some_and(|it| discriminant(it.1) != discriminant(&observed)) {
            return Err(GuestMetricError::WrongKind);
        }
        let has_room = series.len() < MOST_SERIES;
        match series.entry((name, labels)) {
            Entry::Occupied(mut entry) => entry.get_mut().add(observed),
            Entry::Vacant(entry) if has_room => {
                entry.insert(observed);
            }
            Entry::Vacant(_) => return Err(GuestMetricError::TooManySeries),
        }
        Ok(())
    }
}

impl GuestValue {
    /// Adds an observation of the same kind.
    fn add(&mut self, observed: Self) {
        match (self, observed) {
            (Self::Counter(count), Self::Counter(delta)) => *count = count.saturating_add(delta),
            (Self::Gauge(value), Self::Gauge(new)) => *value = new,
            (Self::Summary { count, sum }, Self::Summary { count: more, sum: added }) => {
                *count += more;
                *sum += added;
            }
            // All series of a name have one kind.
            _ => (),
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
            let expected = if n < MOST_SERIES { Ok(()) } else { Err(GuestMetricError::TooManySeries) };
            assert_eq!(metrics.record("seen".into(), labels, GuestValue::Gauge(0.0)), expected);
        }
        assert_eq!(metrics.series().len(), MOST_SERIES);
        let invalid = metrics.record("bad name".into(), vec![], GuestValue::Gauge(0.0));
        assert_eq!(invalid, Err(GuestMetricError::InvalidName));
        let infinite = metrics.record("seen".into(), vec![], GuestValue::Gauge(f64::NAN));
        assert_eq!(infinite, Err(GuestMetricError::InvalidValue));
    }

    #[test]
    fn observations_add_up() {
        let metrics = GuestMetrics::default();
        for value in [1.0, 2.5] {
            metrics.record("c".into(), vec![], GuestValue::Counter(2)).unwrap();
            metrics.record("g".into(), vec![], GuestValue::Gauge(value)).unwrap();
            metrics.record("h".into(), vec![], GuestValue::Summary { count: 1, sum: value }).unwrap();
        }
        let values: Vec<_> = metrics.series().into_iter().map(|it| it.value).collect();
        let summary = GuestValue::Summary { count: 2, sum: 3.5 };
        assert_eq!(values, [GuestValue::Counter(4), GuestValue::Gauge(2.5), summary]);
    }

    #[test]
    fn a_name_has_one_kind() {
        let metrics = GuestMetrics::default();
        let label = |value: &str| vec![("at".to_owned(), value.to_owned())];
        for (name, labels, value, expected) in [
            ("seen", label("a"), GuestValue::Gauge(0.0), Ok(())),
            ("seen", label("b"), GuestValue::Counter(0), Err(GuestMetricError::WrongKind)),
            ("seen", label("b"), GuestValue::Gauge(0.0), Ok(())),
            ("see", vec![], GuestValue::Counter(0), Ok(())),
            ("seen_", vec![], GuestValue::Summary { count: 0, sum: 0.0 }, Ok(())),
        ] {
            assert_eq!(metrics.record(name.into(), labels, value), expected, "{name}");
        }
        let names: Vec<_> = metrics.series().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["see", "seen", "seen", "seen_"]);
    }
}
