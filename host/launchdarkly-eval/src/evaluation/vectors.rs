//! Evaluation vectors: cases as data, in two places.
//!
//! Ours are in `tests/vectors/launchdarkly-eval` and always run. A larger set, derived from `launchdarkly/sdk-test-harness`
//! and LaunchDarkly's Go evaluator, is read from the subfolder `launchdarkly-eval` of the folder in `YARDARM_VECTORS`.

mod case;
mod others;

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use self::case::{Case, Payload, RandomRuns, body_failures, case_failures};

#[test]
fn own_cases_have_the_expected_results() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/launchdarkly-eval");
    assert_cases(&folder, &["worked-examples", "vendor-differences"], 60);
}

#[test]
fn shared_cases_have_the_results_of_the_vendors_relay() {
    let Some(folder) = shared_folder() else { return };
    let names: Vec<String> = fs::read_dir(&folder)
        .expect("the folder of vectors")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("harness-") || name.starts_with("edge-") || name == "big-segments.json")
        .map(|name| name.trim_end_matches(".json").to_owned())
        .collect();
    assert_cases(&folder, &names.iter().map(String::as_str).collect::<Vec<_>>(), 500);
}

#[test]
fn whole_bodies_equal_those_of_the_vendors_relay() {
    let Some(folder) = shared_folder() else { return };
    let payloads: Vec<Payload> = read(&folder, "payload-evalx");
    let random: Vec<RandomRuns> = read(&folder, "random-evalx");
    let mut failures = Vec::new();
    payloads.iter().for_each(|payload| failures.extend(body_failures(&payload.runs())));
    random.iter().for_each(|runs| failures.extend(body_failures(&runs.runs())));
    assert!(
        payloads.len() >= 36 && random.len() >= 30,
        "only {} payloads and {} data sets",
        payloads.len(),
        random.len()
    );
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// The shared vectors; `None` where there are none, which does not happen in CI.
fn shared_folder() -> Option<PathBuf> {
    yardarm_testkit::vectors("launchdarkly-eval")
}

fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> Vec<T> {
    let path = folder.join(name).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Checks all cases of these files, of which there must be at least `least`.
fn assert_cases(folder: &Path, names: &[&str], least: usize) {
    let (mut count, mut failures) = (0, Vec::new());
    for name in names {
        let cases: Vec<Case> = read(folder, name);
        count += cases.len();
        cases.iter().for_each(|case| failures.extend(case_failures(case)));
    }
    println!("{count} cases checked");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= least, "only {count} cases found");
}
