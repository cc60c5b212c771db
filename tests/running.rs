//! A gateway inside the test process: started with its own fake upstream, accessed over HTTP, stopped to its last task.

mod faults;
mod files;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use yardarm::config;
use yardarm::{Config, Gateway, Supervisor};
use yardarm_testkit::{Answer, Call, FakeLaunchDarkly, SseClient, until, within};

pub(crate) use self::files::{common_toml, harness_toml, proxy_toml};
use crate::expected::Expected;
use crate::sdk::Sdk;

pub(crate) const SDK_KEY: &str = "sdk-00000000-1111-2222-3333-444444444401";
pub(crate) const MOBILE_KEY: &str = "mob-00000000-1111-2222-3333-444444444402";
pub(crate) const ENV_ID: &str = "64c0ffee64c0ffee64c0ffee";
/// `{"kind":"user","key":"a"}`
pub(crate) const CTX: &str = "eyJraW5kIjoidXNlciIsImtleSI6ImEifQ";

type Prepare = Box<dyn FnOnce(&FakeLaunchDarkly) + Send>;

/// The configuration of a gateway: one environment with all three credentials, unless a test changes it.
pub(crate) struct Setup {
    settings: BTreeMap<String, Value>,
    environments: Vec<Value>,
    data: Vec<(String, Value)>,
    cloud: Option<FakeLaunchDarkly>,
    prepare: Option<Prepare>,
    waits_until_ready: bool,
}

/// A running gateway.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Metrics under the names of LaunchDarkly's relay.
    pub(crate) metrics: Option<SocketAddr>,
    /// The fake upstream.
    pub(crate) upstream: FakeLaunchDarkly,
    /// Injects panics.
    pub(crate) supervisor: Supervisor,
    config: Box<Config>,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<oneshot::Receiver<bool>>,
    thread: Option<JoinHandle<()>>,
    /// Keeps the plugin folder.
    _dir: Option<TempDir>,
}

pub(crate) fn main_environment() -> Value {
    json!({"name": "main", "sdk_key": SDK_KEY, "mobile_key": MOBILE_KEY, "env_id": ENV_ID})
}

impl Setup {
    /// Uses an upstream that has no data yet.
    pub(crate) fn new() -> Self {
        let settings = [
            ("server.listen", json!("127.0.0.1:0")),
            ("admin.listen", json!("127.0.0.1:0")),
            ("data.dir", json!("")),
            ("shutdown.drain", json!("0s")),
            ("shutdown.timeout", json!("10s")),
            // Fakes make reconnects quick with `retry:`.
            ("launchdarkly.min_reconnect_delay", json!("10ms")),
        ];
        Self {
            settings: settings.map(|(key, value)| (key.to_owned(), value)).into(),
            environments: vec![main_environment()],
            data: Vec::new(),
            cloud: None,
            prepare: None,
            waits_until_ready: true,
        }
    }

    /// Uses an upstream with this data, as most tests do.
    pub(crate) fn with(data: Value) -> Self {
        Self::new().data(SDK_KEY, data)
    }

    /// Adds data for one more key to the upstream.
    pub(crate) fn data(mut self, sdk_key: &str, data: Value) -> Self {
        self.data.push((sdk_key.to_owned(), data));
        self
    }

    /// Sets one setting, by its path.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.settings.insert(path.to_owned(), value.into());
        self
    }

    /// Forwards events at short intervals.
    pub(crate) fn events(self) -> Self {
        self.set("launchdarkly.send_events", true).set("launchdarkly.events_flush_interval", "100ms")
    }

    /// Replaces the usual environment.
    pub(crate) fn environments(mut self, environments: impl IntoIterator<Item = Value>) -> Self {
        self.environments = environments.into_iter().collect();
        self
    }

    /// Adds settings to the usual environment.
    pub(crate) fn environment(self, settings: Value) -> Self {
        let mut environment = main_environment();
        for (key, value) in settings.as_object().expect("an object") {
            environment[key] = value.clone();
        }
        self.environments([environment])
    }

    /// Prepares the upstream before the gateway starts.
    pub(crate) fn prepare(mut self, prepare: impl FnOnce(&FakeLaunchDarkly) + Send + 'static) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Uses an upstream that is running already, and outlives the gateway.
    pub(crate) fn cloud(mut self, cloud: &FakeLaunchDarkly) -> Self {
        self.cloud = Some(cloud.clone());
        self
    }

    /// Makes [`Self::start`] return before there is data.
    pub(crate) fn without_waiting(mut self) -> Self {
        self.waits_until_ready = false;
        self
    }

    /// Returns the configuration file. Explicit settings override the address of the upstream.
    pub(crate) fn toml(&self, cloud: &str, dir: &Path) -> String {
        let mut settings = self.settings.clone();
        settings.entry("plugins.dir".to_owned()).or_insert_with(|| json!(dir.join("plugins.d")));
        for key in ["stream_uri", "base_uri", "client_side_base_uri", "events_uri"] {
            settings.entry(format!("launchdarkly.{key}")).or_insert_with(|| json!(cloud));
        }
        let mut text = String::new();
        let mut section = "";
        for (path, value) in &settings {
            let (of, key) = path.split_once('.').expect("a path of two");
            if of != section {
                text.push_str(&format!("[{of}]\n"));
                section = of;
            }
            text.push_str(&format!("{key} = {value}\n"));
        }
        for environment in &self.environments {
            text.push_str("[[launchdarkly.environments]]\n");
            for (key, value) in environment.as_object().expect("an environment is an object") {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }

    /// Writes the configuration file into `dir`.
    pub(crate) fn write(&self, cloud: &str, dir: &Path) -> PathBuf {
        let file = dir.join("yardarm.toml");
        std::fs::write(&file, self.toml(cloud, dir)).expect("a folder that can be written");
        file
    }

    /// Fills an upstream with environments and data.
    pub(crate) fn fill(&mut self, cloud: &FakeLaunchDarkly) {
        for environment in &self.environments {
            let key = environment["sdk_key"].as_str().unwrap_or_default();
            cloud.add_environment(key);
            for filter in environment["filters"].as_array().into_iter().flatten() {
                let filter = filter.as_str().unwrap_or_default().replace(' ', "%20");
                cloud.add_environment(&format!("{key}?filter={filter}"));
            }
        }
        for (key, data) in &self.data {
            cloud.puts(key, data);
        }
        if let Some(prepare) = self.prepare.take() {
            prepare(cloud);
        }
    }

    /// Starts the gateway.
    pub(crate) async fn start(mut self) -> Running {
        let waits_until_ready = self.waits_until_ready;
        let cloud = self.cloud.take();
        let dir = TempDir::new().expect("a temporary folder");
        let path = dir.path().to_owned();
        let configure = move |cloud: &FakeLaunchDarkly| {
            self.fill(cloud);
            let file = self.write(&cloud.url(), &path);
            config::load(Some(&file), &files::overrides()).expect("a valid configuration").config
        };
        let running = Running::launch(cloud, configure, Some(dir)).await;
        if waits_until_ready {
            running.wait_until_settled().await;
        }
        running
    }
}

impl Running {
    /// Starts a gateway that forwards events to an upstream that is running already.
    pub(crate) async fn with_events(cloud: &FakeLaunchDarkly) -> Self {
        Setup::new().events().cloud(cloud).start().await
    }

    /// Runs the gateway on its own threads, so that a busy test does not slow it down, and the end of the test can wait
    /// for the end of the gateway.
    async fn launch(
        cloud: Option<FakeLaunchDarkly>,
        configure: impl FnOnce(&FakeLaunchDarkly) -> Config + Send + 'static,
        dir: Option<TempDir>,
    ) -> Self {
        let (started, start) = oneshot::channel();
        let (stop, stopping) = oneshot::channel::<()>();
        let (ended, stopped) = oneshot::channel();
        let run = async move {
            let cloud = match cloud {
                Some(cloud) => cloud,
                None => FakeLaunchDarkly::start().await,
            };
            let config = configure(&cloud);
            let gateway = Gateway::start(config.clone()).await.expect("a gateway that starts");
            let addresses = (gateway.address(), gateway.admin_address(), gateway.metrics_address());
            let _ = started.send((cloud, Box::new(config), addresses, gateway.supervisor().clone()));
            // A dropped sender counts as a stop.
            let _ = stopping.await;
            let _ = ended.send(gateway.stop().await);
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("threads").block_on(run);
        });
        let (upstream, config, (address, admin, metrics), supervisor) =
            within("the gateway", start).await.expect("a gateway that starts");
        Self {
            address,
            admin,
            metrics,
            upstream,
            supervisor,
            config,
            stop: Some(stop),
            stopped: Some(stopped),
            thread: Some(thread),
            _dir: dir,
        }
    }

    /// Returns the URL of the listener for SDKs.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the folder of all its files.
    pub(crate) fn folder(&self) -> &Path {
        self._dir.as_ref().expect("a gateway with a folder of its own").path()
    }

    /// Returns the plugin folder.
    pub(crate) fn plugins(&self) -> &Path {
        &self.config.plugins.dir
    }

    /// Waits until the admin listener reports readiness.
    pub(crate) async fn wait_until_ready(&self) {
        within("`/ready` to say yes", async {
            while self.operator_gets("/ready").await.status != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until the admin listener reports readiness, or until only upstream is missing, which had its time.
    pub(crate) async fn wait_until_settled(&self) {
        within("the start of every environment", async {
            while self.operator_gets("/ready").await.status != 200 {
                let reports = self.operator_gets("/api/environments").await.json();
                let phases = reports["environments"].as_array().expect("a list").iter().map(|it| it["phase"].clone());
                let phases: Vec<_> = phases.collect();
                let has_had_its_time = phases.iter().any(|it| it == "empty" || it == "rejected");
                if has_had_its_time && phases.iter().all(|it| it != "starting") {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        self.wait_until_plugins_are_loaded().await;
    }

    /// Waits until every plugin that was in the folder at the start is active or rejected.
    pub(crate) async fn wait_until_plugins_are_loaded(&self) {
        within("the plugins of the start", async {
            while self.operator_gets("/api/plugins").await.json()["ready"] != true {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Sends a request to the listener for SDKs.
    pub(crate) async fn answers(&self, call: &Call) -> Answer {
        call.to(self.address).await
    }

    /// Sends a request, and compares status, all headers and body. `row` is the subject of the test.
    pub(crate) async fn answers_as(&self, row: &str, call: Call, expected: impl Into<Expected>) -> Answer {
        let answer = self.answers(&call).await;
        expected.into().compare(&format!("{row}: {call}"), &answer);
        answer
    }

    /// Sends a request to the admin listener.
    pub(crate) async fn operator_gets(&self, path: &str) -> Answer {
        Call::get(path).to(self.admin).await
    }

    /// Opens a stream with a key.
    pub(crate) async fn opens(&self, path: &str, key: &str) -> Sdk {
        self.opens_with(&Call::get(path).key(key)).await
    }

    /// Opens a stream with any request.
    pub(crate) async fn opens_with(&self, call: &Call) -> Sdk {
        Sdk::new(SseClient::open(self.address, call).await, call)
    }

    /// Opens a stream as soon as the environment accepts streams.
    pub(crate) async fn opens_when_ready(&self, path: &str, key: &str) -> Sdk {
        let call = Call::get(path).key(key);
        let asks = async {
            loop {
                let client = SseClient::open(self.address, &call).await;
                if client.head().status != 503 {
                    return Sdk::new(client, &call);
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        within("an open stream", asks).await
    }

    /// Returns the body of `/status`.
    pub(crate) async fn status(&self) -> Value {
        self.answers(&Call::get("/status")).await.json()
    }

    /// Waits until `/status` satisfies a condition; returns it.
    pub(crate) async fn status_where(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let looks = async {
            loop {
                last = self.status().await;
                if is_wanted(&last) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(yardarm_testkit::WAIT_TIMEOUT, looks).await.is_err() {
            panic!("waited for `/status` to show {what}, it shows {last}");
        }
        last
    }

    /// Waits until `condition` holds.
    pub(crate) async fn eventually(&self, what: &str, condition: impl FnMut() -> bool) {
        until(what, condition).await;
    }

    /// Stops the gateway and starts it again at the same addresses.
    pub(crate) async fn restarted(mut self) -> Self {
        let (cloud, mut config) = (self.upstream.clone(), self.config.clone());
        (config.listen, config.admin) = (self.address, self.admin);
        let dir = self._dir.take();
        self.stop().await;
        let running = Self::launch(Some(cloud), move |_| *config, dir).await;
        running.wait_until_ready().await;
        running
    }

    /// Stops the gateway to its last task.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let stopped = self.stopped.take().expect("stopped once");
        assert!(
            within("the end of the gateway", stopped).await.expect("an orderly end"),
            "something did not end in time"
        );
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the gateway panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.join();
        if let Some(mut stopped) = self.stopped.take()
            && !std::thread::panicking()
        {
            assert_eq!(stopped.try_recv(), Ok(true), "something did not end in time");
        }
    }
}
