//! Gateways that are configured by a file.

use std::path::Path;

use tempfile::TempDir;
use yardarm::config::{self, Compiler, Overrides};
use yardarm_testkit::{FakeHarness, FakeLaunchDarkly};

use super::Running;

/// Returns the sources of configuration besides the file: plugins are compiled as the program compiles them.
pub(crate) fn overrides() -> Overrides {
    Overrides { compiler: Compiler::program(env!("CARGO_BIN_EXE_yardarm")), ..Overrides::default() }
}

/// Returns a configuration for Harness only: keys of environments, and more settings of the section.
pub(crate) fn harness_toml(dir: &Path, cloud: &FakeHarness, api_keys: &[&str], more: &str) -> String {
    let (url, token) = (cloud.url(), FakeHarness::ADMIN_TOKEN);
    let environment = |key: &&str| format!("[[harness.environments]]\napi_key = {key:?}\n");
    let environments: String = api_keys.iter().map(environment).collect();
    format!(
        r#"{common}
        [harness]
        client_service = "{url}/api/1.0"
        admin_service = "{url}/gateway/cf"
        metric_service = "{url}/api/1.0"
        account = "account"
        organization = "organization"
        admin_token = "{token}"
        {more}
        {environments}
        "#,
        common = common_toml(dir)
    )
}

/// Returns a configuration for Harness with a proxy key only, and more settings of the section.
pub(crate) fn proxy_toml(dir: &Path, cloud: &FakeHarness, proxy_key: &str, more: &str) -> String {
    let url = cloud.url();
    format!(
        r#"{common}
        [harness]
        client_service = "{url}/api/1.0"
        metric_service = "{url}/api/1.0"
        proxy_key = {proxy_key:?}
        {more}
        "#,
        common = common_toml(dir)
    )
}

/// Returns a configuration for a read replica of Harness data, and more settings of the section. Requests to upstream would
/// fail.
pub(crate) fn replica_toml(dir: &Path, redis: &str, more: &str) -> String {
    format!(
        r#"{common}
        [harness]
        client_service = "http://127.0.0.1:9"
        metric_service = "http://127.0.0.1:9"
        read_replica = true
        redis.url = {redis:?}
        {more}
        "#,
        common = common_toml(dir)
    )
}

/// Returns the settings that are independent of vendors, with a plugin folder that exists.
pub(crate) fn common_toml(dir: &Path) -> String {
    let (data, plugins) = (dir.join("data"), dir.join("plugins.d"));
    std::fs::create_dir_all(&plugins).expect("a folder");
    format!(
        r#"
        data.dir = {data:?}
        plugins.dir = {plugins:?}
        server.listen = "127.0.0.1:0"
        admin.listen = "127.0.0.1:0"
        shutdown.drain = "0s"
        shutdown.timeout = "10s"
        "#
    )
}

impl Running {
    /// Starts a gateway for Harness only, with more settings of its section.
    pub(crate) async fn before_harness(cloud: &FakeHarness, api_keys: &[&str], more: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::write(dir.path().join("yardarm.toml"), harness_toml(dir.path(), cloud, api_keys, more))
            .expect("a folder that can be written");
        Self::in_folder(dir).await
    }

    /// Starts a gateway for Harness only, with a proxy key and more settings of its section.
    pub(crate) async fn before_harness_proxy(cloud: &FakeHarness, proxy_key: &str, more: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::write(dir.path().join("yardarm.toml"), proxy_toml(dir.path(), cloud, proxy_key, more))
            .expect("a folder that can be written");
        Self::in_folder(dir).await
    }

    /// Starts a read replica of Harness data, with more settings of its section.
    pub(crate) async fn harness_replica(redis: &str, more: &str) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::write(dir.path().join("yardarm.toml"), replica_toml(dir.path(), redis, more))
            .expect("a folder that can be written");
        Self::in_folder(dir).await
    }

    /// Starts a gateway with the configuration file in a folder.
    pub(crate) async fn in_folder(dir: TempDir) -> Self {
        let file = dir.path().join("yardarm.toml");
        let configure =
            move |_: &FakeLaunchDarkly| config::load(Some(&file), &overrides()).expect("a valid configuration").config;
        Self::launch(None, configure, Some(dir)).await
    }
}
