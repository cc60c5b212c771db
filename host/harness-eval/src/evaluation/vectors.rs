//! Evaluation vectors, most of them from harness/ff-golang-server-sdk. They are not part of the repository: the environment
//! variable `YARDARM_VECTORS` names a folder that contains them in `harness-eval`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::bucket::murmur3;
use super::{Ruleset, Served, bucket};
use crate::model::{Flag, Segment, Target};

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    name: String,
    flags: Vec<Value>,
    #[serde(default)]
    segments: Option<Vec<Value>>,
    #[serde(default)]
    targets: Option<Vec<Target>>,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    flag: String,
    target: Option<String>,
    expected: Value,
}

#[derive(Deserialize)]
struct Cases<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BucketCase {
    bucket_by: String,
    value: String,
    input: String,
    #[serde(rename = "murmur3_32")]
    hash: u32,
    bucket: u32,
}

/// The folder of the vectors; `None` if it is missing, which fails in CI.
fn folder() -> Option<PathBuf> {
    yardarm_testkit::vectors("harness-eval")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of vectors") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|it| it == "json") {
            files.push(path);
        }
    }
    files
}

/// Runs all tests of a case; returns how many there were and what failed.
fn run(
    case: &Case,
    what: &str,
    is_expected: impl Fn(&str, Result<Served<'_>, String>, &Value) -> bool,
) -> (usize, Vec<String>) {
    let flags: Vec<_> = case.flags.iter().map(|it| Arc::new(Flag::read(it.clone()).expect("a flag"))).collect();
    let segments = case.segments.iter().flatten();
    let segments: Vec<_> = segments.map(|it| Arc::new(Segment::read(it.clone()).expect("a segment"))).collect();
    let ruleset = Ruleset::build(&flags, &segments);
    let mut failures = Vec::new();
    for test in &case.tests {
        let target = test.target.as_ref().map(|name| {
            let known = case.targets.iter().flatten().find(|it| it.identifier == *name);
            known.cloned().unwrap_or_else(|| Target::unknown(name))
        });
        let served = ruleset.evaluate(&test.flag, target.as_ref()).map_err(|error| error.to_string());
        let kind = flags.iter().find(|it| *it.feature == *test.flag).map_or("", |it| it.kind());
        if !is_expected(kind, served.clone(), &test.expected) {
            failures.push(format!(
                "{what} {}: {} for {:?} is {served:?}, not {}",
                case.name, test.flag, test.target, test.expected
            ));
        }
    }
    (case.tests.len(), failures)
}

fn assert_all(results: impl IntoIterator<Item = (usize, Vec<String>)>, least: usize) {
    let (counts, failures): (Vec<_>, Vec<_>) = results.into_iter().unzip();
    let (count, failures): (usize, Vec<_>) = (counts.iter().sum(), failures.concat());
    println!("{count} assertions checked");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(count >= least, "only {count} assertions found");
}

#[test]
fn the_vendors_cases() {
    // F099
    let Some(folder) = folder() else { return };
    let is_expected = |kind: &str, served: Result<Served<'_>, String>, expected: &Value| {
        let Ok(served) = served else { return false };
        match kind {
            "boolean" => Value::Bool(served.value.eq_ignore_ascii_case("true")) == *expected,
            "int" | "number" => served.value.parse::<f64>().ok() == expected.as_f64(),
            "json" => {
                let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
                parsed(served.value).is_some() && parsed(served.value) == expected.as_str().and_then(parsed)
            }
            _ => Some(served.value) == expected.as_str(),
        }
    };
    let files = files(&folder.join("upstream"));
    assert_all(files.iter().map(|file| run(&read(file), &file.display().to_string(), is_expected)), 55);
}

#[test]
fn cases_for_the_corners() {
    // F100, F102 to F107
    let Some(folder) = folder() else { return };
    let is_expected = |kind: &str, served: Result<Served<'_>, String>, expected: &Value| match served {
        Ok(served) => {
            expected["identifier"] == served.identifier && expected["value"] == served.value && expected["kind"] == kind
        }
        Err(error) => expected["error"].as_str().is_some_and(|class| error.starts_with(class)),
    };
    let files = files(&folder.join("own"));
    let cases = files.iter().flat_map(|file| read::<Cases<Case>>(file).cases);
    assert_all(cases.map(|case| run(&case, "own", is_expected)), 214);
}

#[test]
fn buckets() {
    // F101
    let Some(folder) = folder() else { return };
    let cases: Cases<BucketCase> = read(&folder.join("buckets.json"));
    for case in &cases.cases {
        assert_eq!(format!("{}:{}", case.bucket_by, case.value), case.input);
        assert_eq!(murmur3(case.input.as_bytes()), case.hash, "{}", case.input);
        assert_eq!(bucket(&case.bucket_by, &case.value), case.bucket, "{}", case.input);
    }
    assert!(cases.cases.len() >= 120, "only {} cases found", cases.cases.len());
}
