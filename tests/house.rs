//! The structure of the code, checked against manifests and sources: dependencies between crates, and where tasks are
//! started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Table;

mod language;
mod layers;
mod references;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ is in the repository").to_owned()
}

/// Returns the dependencies that end up in the program, by package.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    sections(&["dependencies", "build-dependencies"])
}

fn sections(names: &[&str]) -> BTreeMap<String, Vec<String>> {
    let workspace = manifest(&root());
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let package = |member: &toml::Value| {
        let manifest = manifest(&root().join(member.as_str().expect("a path")));
        let names_of = |section: &&str| {
            manifest
                .get(*section)
                .and_then(|it| it.as_table())
                .into_iter()
                .flat_map(Table::keys)
                .cloned()
                .collect::<Vec<_>>()
        };
        (manifest["package"]["name"].as_str().expect("a name").to_owned(), names.iter().flat_map(names_of).collect())
    };
    members.iter().map(package).collect()
}

fn manifest(dir: &Path) -> Table {
    let path = dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn dependencies_between_crates_have_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("yardarm-core", &[][..]),
        ("yardarm-fleet", &["yardarm-core", "yardarm-store"]),
        (
            "yardarm-launchdarkly",
            &["yardarm-core", "yardarm-fleet", "yardarm-launchdarkly-eval", "yardarm-vendor", "yardarm-store"],
        ),
        ("yardarm-launchdarkly-eval", &["yardarm-go-regex"]),
        (
            "yardarm-harness",
            &["yardarm-core", "yardarm-fleet", "yardarm-harness-eval", "yardarm-vendor", "yardarm-store"],
        ),
        ("yardarm-harness-eval", &["yardarm-go-regex"]),
        ("yardarm-go-regex", &[]),
        ("yardarm-vendor", &["yardarm-core", "yardarm-fleet"]),
        ("yardarm-wasm", &["yardarm-core", "yardarm-store"]),
        ("yardarm-store", &[]),
        ("eventsource-stream", &[]),
        // The demo runs the fakes inside the process, so the program contains them.
        (
            "yardarm",
            &[
                "yardarm-core",
                "yardarm-fleet",
                "yardarm-launchdarkly",
                "yardarm-harness",
                "yardarm-wasm",
                "yardarm-store",
                "yardarm-vendor",
                "yardarm-fake-clouds",
            ],
        ),
        ("yardarm-fake-clouds", &[]),
        ("yardarm-testkit", &["yardarm-fake-clouds"]),
    ]);
    for (package, dependencies) in dependencies() {
        // Benchmarks and tools may depend on anything; a crate of the product is listed above.
        let Some(allowed) = allowed.get(package.as_str()) else {
            assert!(!package.starts_with("yardarm-"), "{package} is not in the table of architecture.md");
            continue;
        };
        for dependency in dependencies.iter().filter(|it| it.starts_with("yardarm")) {
            assert!(package.starts_with("yardarm"), "{package} stands in for a crate of others and knows none of ours");
            assert!(allowed.contains(&dependency.as_str()), "{package} must not know {dependency}");
        }
    }
    // Not in tests either: a fake that uses the host's code would share its bugs.
    let all = sections(&["dependencies", "dev-dependencies", "build-dependencies"]);
    for (package, allowed) in [("yardarm-testkit", &["yardarm-fake-clouds"][..]), ("yardarm-fake-clouds", &[])] {
        for dependency in all[package].iter().filter(|it| it.starts_with("yardarm")) {
            assert!(allowed.contains(&dependency.as_str()), "{package} must not know {dependency}");
        }
    }
}

#[test]
fn each_crate_has_only_its_allowed_dependencies() {
    let all = dependencies();
    for (tool, owners) in [
        ("redb", &["yardarm-core"][..]),
        ("rmp-serde", &["yardarm-core"]),
        ("wasmparser", &["yardarm-wasm"]),
        ("wasmtime", &["yardarm-wasm"]),
        ("wasmtime-wasi", &["yardarm-wasm"]),
        ("axum", &["yardarm", "yardarm-launchdarkly", "yardarm-harness", "yardarm-vendor", "yardarm-fake-clouds"]),
        ("reqwest", &["yardarm-launchdarkly", "yardarm-harness", "yardarm-store", "yardarm-vendor", "yardarm-wasm"]),
        ("reqwest-eventsource", &["yardarm-vendor"]),
        ("eventsource-stream", &["yardarm-vendor"]),
        ("redis", &["yardarm-store"]),
        ("aws-sdk-dynamodb", &["yardarm-store"]),
        ("prometheus", &["yardarm-core"]),
        ("opentelemetry", &["yardarm"]),
        ("opentelemetry_sdk", &["yardarm"]),
        ("opentelemetry-otlp", &["yardarm"]),
        ("anyhow", &["yardarm", "yardarm-testkit"]),
    ] {
        for (package, dependencies) in all.iter().filter(|(package, _)| package.starts_with("yardarm")) {
            let knows = dependencies.iter().any(|it| it == tool);
            assert!(!knows || owners.contains(&package.as_str()), "{package} must not know {tool}");
        }
    }
    // The vendor's own evaluation is a reference in tests and never part of the program.
    for (package, dependencies) in &all {
        let vendor = dependencies.iter().find(|it| it.starts_with("launchdarkly-"));
        assert_eq!(vendor, None, "{package}");
    }
}

#[test]
fn the_event_stream_decoder_has_few_dependencies() {
    // Another library depends on it, by `[patch.crates-io]`.
    assert_eq!(dependencies()["eventsource-stream"], ["futures-core", "memchr", "nom", "pin-project-lite"]);
}

#[test]
fn clients_for_upstream_are_made_in_one_file() {
    // Another client would follow redirects, and disclose keys. The others are for requests of plugins, and for databases.
    let owners = ["host/vendor/src/upstream/client.rs", "host/wasm/src/services/http.rs", "host/store/src/http.rs"];
    let owners = owners.map(|it| root().join(it));
    for (path, line, text) in code("host") {
        let is_ours = owners.contains(&path)
            || path.components().any(|it| ["benches", "tests"].iter().any(|at| it.as_os_str() == *at));
        let is_test = path.ends_with("tests.rs");
        for start in ["Client::builder()", "ClientBuilder::new()", "Client::new()", "reqwest::get("] {
            assert!(!text.contains(start) || is_ours || is_test, "{}:{line}: {start}", path.display());
        }
    }
}

#[test]
fn tasks_are_started_in_one_file() {
    let owner = root().join("host/core/src/lifecycle.rs");
    for (path, line, text) in code("host") {
        let starts = [
            "tokio::spawn(",
            "task::spawn(",
            "task::spawn_local(",
            "TaskTracker",
            "JoinSet",
            "unbounded_channel",
            "mpsc::unbounded",
        ];
        for start in starts {
            let is_test = path.ends_with("tests.rs")
                || path
                    .components()
                    .any(|it| ["tests", "benches", "fake-clouds"].iter().any(|at| it.as_os_str() == *at));
            assert!(!text.contains(start) || path == owner || is_test, "{}:{line}: {start}", path.display());
        }
    }
}

#[test]
fn threads_are_started_in_one_file() {
    let owner = root().join("host/core/src/supervisor.rs");
    let pools = ["host/core/src/workers.rs", "host/wasm/src/staging/compilation/threads.rs"].map(|it| root().join(it));
    for (path, line, text) in code("host") {
        for start in ["spawn_blocking(", "thread::Builder", "thread::spawn("] {
            let is_test = path.components().any(|it| it.as_os_str() == "tests" || it.as_os_str() == "benches");
            assert!(!text.contains(start) || path == owner || is_test, "{}:{line}: {start}", path.display());
        }
        let is_pool = pools.contains(&path) || !text.contains("ThreadPoolBuilder");
        assert!(is_pool, "{}:{line}: a pool of threads", path.display());
    }
}

#[test]
fn only_the_store_knows_the_database_and_its_encoding() {
    let owners = ["host/core/src/data_store.rs", "host/core/src/data_store"];
    let owners = owners.map(|it| root().join(it));
    for (path, line, text) in code("host") {
        let is_owner = owners.iter().any(|it| path.starts_with(it));
        assert!(is_owner || !["rmp_serde", "redb::"].iter().any(|it| text.contains(it)), "{}:{line}", path.display());
    }
}

#[test]
fn metrics_are_declared_in_catalogs() {
    // Names of one vendor stay in its crate.
    let owners = ["host/core/src/metrics/catalog.rs", "host/harness/src/downstream/compat_metrics.rs"];
    let owners = owners.map(|it| root().join(it));
    for (path, line, text) in code("host") {
        let is_reader = path.components().any(|it| it.as_os_str() == "benches");
        assert!(!text.contains("\"yardarm_") || owners.contains(&path) || is_reader, "{}:{line}", path.display());
    }
}

#[test]
fn vendor_names_stay_in_vendor_crates() {
    for part in ["host/core/src", "host/vendor/src", "host/store/src", "host/wasm/src", "wit"] {
        let mut files = 0;
        let mut last = PathBuf::new();
        for (path, line, text) in code(part) {
            if path != last {
                (files, last) = (files + 1, path.clone());
            }
            // Tests of bindings name environments as operators do.
            if path.components().any(|it| it.as_os_str() == "tests") || path.ends_with("tests.rs") {
                continue;
            }
            let text = text.to_lowercase();
            for word in ["launchdarkly", "ld-relay", "harness", "ff-proxy", "/sdk/", "/meval", "x-launchdarkly"] {
                assert!(!text.contains(word), "{}:{line}: {word}", path.display());
            }
        }
        assert!(files > 0, "{part} has files");
    }
}

/// Sources below a folder, in Rust and WIT, with their text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|it| it.expect("an entry").path()) {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !["target", "node_modules", ".venv"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") || name.ends_with(".wit") {
                let text = std::fs::read_to_string(&path).expect("text");
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

/// Returns lines of code below a folder, without comments and without the unit tests at the end of a file.
fn code(folder: &str) -> Vec<(PathBuf, usize, String)> {
    let mut folders = vec![root().join(folder)];
    let mut lines = Vec::new();
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> =
            std::fs::read_dir(&folder).expect("a folder").map(|it| it.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
            if path.is_dir() && path.file_name().is_some_and(|it| it != "target") {
                folders.push(path);
            } else if ["rs", "wit"].contains(&extension) {
                let text = std::fs::read_to_string(&path).expect("text");
                let until_tests = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
                for (index, line) in until_tests.enumerate() {
                    // Citations of the source of a behaviour are in comments.
                    let code = line.split("//").next().unwrap_or_default();
                    lines.push((path.clone(), index + 1, code.to_owned()));
                }
            }
        }
    }
    lines
}
