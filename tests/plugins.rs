//! Plugins in a running gateway: the samples, guests in every language, hostile guests, swaps under load.

mod captures;
mod client_address;
mod commands;
mod compile;
mod cookbook;
mod enrichment;
mod every_route;
mod explain;
mod folder;
mod guards;
mod hostile;
mod languages;
mod least_privilege;
mod manual;
mod museum;
mod panics;
mod payloads;
mod registry;
mod resolving;
mod rollback;
mod rollouts;
mod running;
mod samples;
mod scaffolds;
mod shared_values;
mod spans;
mod start;
mod states;
mod swaps;
mod tooling;

pub(crate) use self::enrichment::gold;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use yardarm_testkit::{FakeLaunchDarkly, within};

use crate::running::{Running, Setup};

/// Returns a gate for callers of every kind that denies requests without a token; `refuses` contains lines of its
/// configuration.
pub(crate) fn gate(refuses: &str) -> String {
    format!(
        r#"
        [plugin]
        name = "request-gate"
        grants = ["header:x-gate-token"]
        [plugin.config]
        tokens = ["open sesame"]
        sdks = ["client", "mobile", "server"]
        {refuses}
        [[bind]]
        hook = "request-auth"
        "#
    )
}

/// Returns an event redactor with these lines of configuration.
pub(crate) fn redactor(rules: &str) -> String {
    format!(
        r#"
        [plugin]
        name = "event-redactor"
        grants = ["event-bodies"]
        [plugin.config]
        {rules}
        [[bind]]
        hook = "event-filter"
        "#
    )
}

/// A gateway with its own plugin folder.
pub(crate) struct Plugged {
    pub(crate) gateway: Running,
    folder: PathBuf,
    _dir: TempDir,
}

impl Plugged {
    /// Starts a gateway with a folder that is filled by `fill`.
    pub(crate) async fn start(setup: Setup, fill: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().expect("a folder");
        let folder = dir.path().join("plugins.d");
        std::fs::create_dir(&folder).expect("a folder");
        fill(&folder);
        let setup = setup
            .set("plugins.dir", folder.to_str().expect("a path of text"))
            .set("data.dir", dir.path().join("data").to_str().expect("a path of text"))
            .set("plugins.recheck_window", "200ms");
        Self { gateway: setup.start().await, folder, _dir: dir }
    }

    /// Puts a file into the folder atomically, by a rename.
    pub(crate) fn drops(&self, name: &str, content: impl AsRef<[u8]>) {
        put(&self.folder, name, content);
    }

    pub(crate) fn removes(&self, name: &str) {
        std::fs::remove_file(self.folder.join(name)).expect("a file that is there");
    }

    /// Returns the row of a plugin in `/api/plugins`.
    pub(crate) async fn plugin(&self, file: &str) -> Value {
        let status = self.gateway.operator_gets("/api/plugins").await.json();
        let rows = status["plugins"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["file"] == file).unwrap_or_default()
    }

    /// Waits until the row of a plugin satisfies a condition; returns it.
    pub(crate) async fn plugin_where(&self, file: &str, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        within(&format!("plugin `{file}` to be {what}"), async {
            loop {
                let row = self.plugin(file).await;
                if is_wanted(&row) {
                    return row;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub(crate) async fn wait_until_active(&self, file: &str) {
        self.plugin_where(file, "active", |row| row["state"] == "active").await;
    }
}

/// Puts a file into a folder by a rename.
pub(crate) fn put(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let temporary = folder.join(format!("{name}.part"));
    std::fs::write(&temporary, content).expect("a file");
    std::fs::rename(temporary, folder.join(name)).expect("a file");
}

/// Returns a sample plugin, as built by `make plugins`.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let file = format!("plugins/target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    built(&file, "make plugins")
}

fn built(file: &str, command: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read(&path).unwrap_or_else(|_| panic!("`{file}` is not there, run `{command}` first"))
}

/// Waits until events of these kinds have arrived; returns all that have.
pub(crate) async fn arrived(cloud: &FakeLaunchDarkly, kinds: &[&str]) -> Vec<Value> {
    within(&format!("events {kinds:?}"), async {
        loop {
            let events: Vec<Value> = cloud
                .posts("/bulk")
                .iter()
                .flat_map(|post| post.json().as_array().cloned().unwrap_or_default())
                .collect();
            if kinds.iter().all(|kind| events.iter().any(|event| event["kind"] == *kind)) {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
