//! Requests by SDK. Callers name their SDKs themselves, so the number of series is bounded.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use yardarm_core::SdkRelease;
use yardarm_core::metrics::Families;
use yardarm_core::metrics::catalog::SDK_REQUESTS;

/// Versions of an SDK that have series of their own; the requests of further ones are counted together.
const MAX_VERSIONS: usize = 32;
/// Label value of SDKs that are not known, and of further versions.
const OTHER: &str = "other";

/// Counts by vendor, name and release; the release is `None` for the further versions of a name.
#[derive(Default)]
pub(super) struct SdkCounts(Mutex<BTreeMap<(&'static str, &'static str), Versions>>);

#[derive(Default)]
struct Versions {
    known: BTreeMap<SdkRelease, u64>,
    other: u64,
}

impl SdkCounts {
    pub(super) fn count(&self, vendor: &'static str, release: Option<SdkRelease>) {
        let mut counts = self.0.lock();
        let versions = counts.entry((vendor, release.map_or(OTHER, |it| it.name))).or_default();
        let has_room = versions.known.len() < MAX_VERSIONS;
        match release {
            Some(release) if has_room || versions.known.contains_key(&release) => {
                *versions.known.entry(release).or_default() += 1;
            }
            _ => versions.other += 1,
        }
    }

    pub(super) fn collect(&self, families: &mut Families) {
        for ((vendor, name), versions) in &*self.0.lock() {
            for (release, count) in &versions.known {
                families.sample(&SDK_REQUESTS, &[vendor, name, &release.version().to_string()], *count);
            }
            if versions.other > 0 {
                families.sample(&SDK_REQUESTS, &[vendor, name, OTHER], versions.other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v052_the_number_of_series_is_bounded() {
        let counts = SdkCounts::default();
        let release = |text: &str| SdkRelease::parse(text, &["One", "Two"]);
        for patch in 0..1000 {
            counts.count("acme", release(&format!("One/1.0.{patch}")));
        }
        counts.count("acme", release("One/1.0.0"));
        counts.count("acme", release("Two/2.1.0"));
        counts.count("acme", None);
        let mut families = Families::default();
        counts.collect(&mut families);
        let text = families.encode();
        let series: Vec<_> = text.lines().filter(|it| !it.starts_with('#')).collect();
        assert_eq!(series.len(), MAX_VERSIONS + 3, "{text}");
        for expected in [
            r#"yardarm_sdk_requests_total{sdk="One",vendor="acme",version="1.0.0"} 2"#,
            r#"yardarm_sdk_requests_total{sdk="One",vendor="acme",version="other"} 968"#,
            r#"yardarm_sdk_requests_total{sdk="Two",vendor="acme",version="2.1.0"} 1"#,
            r#"yardarm_sdk_requests_total{sdk="other",vendor="acme",version="other"} 1"#,
        ] {
            assert!(series.contains(&expected), "{expected} in\n{text}");
        }
    }
}
