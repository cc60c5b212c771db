//! The museum: plugins built for each version of the interface load and pass their cases on every later host, and what is
//! released never changes. `tests/museum/README.md` has the rules.
//!
//! Acceptance test 8 of the plugin system.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::program::run;

/// Versions of the interface, each with a folder in `tests/museum` and in `wit`.
const VERSIONS: [&str; 1] = ["v0.1"];
/// Those of a release. From then on nothing of them changes.
const RELEASED: [&str; 0] = [];

/// Digests of the files of a version.
const DIGESTS: &str = "SHA256SUMS";
/// The end of the name of a component.
const COMPONENT: &str = ".wasm.xz";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn museum(version: &str) -> PathBuf {
    root().join("tests/museum").join(version)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.sort();
    names
}

/// Returns the digests of a version in the format of `sha256sum`: of its plugins, and of its interface.
fn digests(version: &str) -> String {
    let mut digests = BTreeMap::new();
    for (folder, prefix) in [(museum(version), ""), (root().join("wit").join(version), "wit/")] {
        for name in names_in(&folder).into_iter().filter(|name| name != DIGESTS) {
            let content = fs::read(folder.join(&name)).expect("a file");
            digests.insert(format!("{prefix}{name}"), hex::encode(Sha256::digest(content)));
        }
    }
    digests.into_iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect()
}

#[test]
fn what_is_released_never_changes() {
    for version in VERSIONS {
        let file = museum(version).join(DIGESTS);
        let (present, expected) = (digests(version), fs::read_to_string(&file).unwrap_or_default());
        let is_released = RELEASED.contains(&version);
        if present != expected && !is_released && std::env::var_os("UPDATE_MUSEUM").is_some() {
            fs::write(&file, &present).expect("the digests are written");
            continue;
        }
        let changed: Vec<&str> = present
            .lines()
            .chain(expected.lines())
            .filter(|line| !(present.contains(line) && expected.contains(line)))
            .collect();
        let advice = if is_released {
            "this version is released: take the change back, and add a new version of the interface"
        } else {
            "this version is not released: if the change is intended, run this test with UPDATE_MUSEUM=1"
        };
        assert!(changed.is_empty(), "{version} has changed; {advice}:\n{}", changed.join("\n"));
    }
}

#[test]
fn every_version_of_the_interface_is_in_the_museum() {
    assert_eq!(names_in(&root().join("wit")), VERSIONS);
    for version in VERSIONS {
        let names = names_in(&museum(version));
        for language in ["c", "go", "javascript", "python", "rust", "wat"] {
            let component = format!("{language}-event-filter{COMPONENT}");
            assert!(names.contains(&component), "{version}: {component}");
        }
    }
}

/// With the binding file and the cases of that time, by the code that loads plugins into a gateway.
#[test]
fn every_plugin_in_the_museum_loads_and_passes_its_cases() {
    for version in VERSIONS {
        let museum = museum(version);
        for component in names_in(&museum) {
            let Some(name) = component.strip_suffix(COMPONENT) else { continue };
            println!("{version}: {name}");
            let dir = TempDir::new().expect("a folder");
            let cases = cases(&museum, name);
            let [file, binding] = ["wasm", "toml"].map(|ending| format!("{name}.{ending}"));
            fs::write(dir.path().join(&file), unpacked(&museum.join(&component))).expect("a file");
            fs::copy(museum.join(&binding), dir.path().join(&binding)).expect("a binding file");
            fs::write(dir.path().join(format!("{name}.cases.jsonl")), &cases).expect("a file");
            let tested = run(dir.path(), &["plugin", "--json", "test", &file, "--binding", &binding]);
            let document: Value = serde_json::from_slice(&tested.stdout).expect("JSON");
            assert!(tested.status.success(), "{version}: {name}: {document:#}");
            let ran = document["cases"].as_array().map(Vec::len);
            assert_eq!((ran, &document["failed"]), (Some(cases.lines().count()), &Value::from(0)), "{document:#}");
        }
    }
}

/// Returns the cases of a plugin: its own, or those that the event filters in all languages share. The one in WebAssembly
/// text does not read the content of events.
fn cases(museum: &Path, name: &str) -> String {
    let read = |name: &str| fs::read_to_string(museum.join(format!("{name}.cases.jsonl"))).ok();
    let shared = |name: &str| read(name).expect("cases");
    read(name).unwrap_or_else(|| match name {
        "wat-event-filter" => shared("event-filter"),
        _ => shared("event-filter") + &shared("event-bodies"),
    })
}

fn unpacked(file: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    let packed = fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    lzma_rs::xz_decompress(&mut BufReader::new(packed), &mut content).expect("a file of xz");
    content
}
