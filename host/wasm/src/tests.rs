//! Tests of the public interface of the crate: files are put into a folder, hooks are called, and results are checked.

mod captures;
mod cases;
mod content;
mod cpu_share;
mod files;
mod folder;
mod grants;
mod guards;
mod hooks;
mod limits;
mod orders;
mod policies;
mod purity;
mod reports;
mod resolver;
mod rollback;
mod rollouts;
mod services;
mod sets;
mod side_by_side;
mod signatures;
mod swap;
mod trust;
mod wasi;
mod zoo;

use std::fs::Permissions;
use std::future::ready;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tempfile::TempDir;
use yardarm_core::hooks::{
    Admission, AdmittedRequest, BatchFacts, ContextAttribute, ContextView, Denial, DenialClass, EnrichmentFacts,
    EnvironmentHooks, EvaluationFacts, Event, Filtered, Filtering, HookFailure, Hooks, ItemHead, PayloadEdit,
    PayloadFacts, PayloadView, RequestFacts, RequestHead, ResultEdits, ResultView, Verdict, ViewedResult,
};
use yardarm_core::readiness::ReadyPolicy;
use yardarm_core::{DataStore, EnvironmentLabel, Lifecycle, Secret};
use yardarm_testkit::guests::{Guest, GuestHook};

use crate::{FolderStatus, PluginFolder, PluginStatus, Settings};

/// Time limit of waits.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long components wait for their binding files.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// A watched folder in a test.
struct Fixture {
    dir: TempDir,
    hooks: Hooks,
    lifecycle: Lifecycle,
    folder: Arc<PluginFolder>,
}

/// A data folder with its store.
struct DataDir {
    dir: TempDir,
    store: DataStore,
}

impl DataDir {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = DataStore::open(dir.path(), &Lifecycle::new()).await;
        Self { dir, store }
    }

    /// The folder of compiled components.
    fn compiled(&self) -> PathBuf {
        self.dir.path().join("compiled")
    }
}

impl Fixture {
    /// Opens a folder with these files in it.
    async fn with(files: &[(&str, &[u8])]) -> Self {
        Self::set_up(files, |_| ()).await
    }

    async fn set_up(files: &[(&str, &[u8])], change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_store(files, None, change).await
    }

    /// Opens a folder whose compiled components are cached in a data folder.
    async fn cached(files: &[(&str, &[u8])], data: &DataDir, max_size: u64) -> Self {
        Self::with_store(files, Some(data.store.clone()), |settings| {
            settings.cache_dir = Some(data.compiled());
            settings.cache_limits.max_size = max_size;
        })
        .await
    }

    async fn with_store(files: &[(&str, &[u8])], store: Option<DataStore>, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            place(dir.path(), name, content);
        }
        let mut settings = Settings { dir: dir.path().to_owned(), instances: 64, ..Settings::default() };
        change(&mut settings);
        let fixture = Self::open(dir, settings, store).await;
        fixture.shows("everything loaded or rejected", |status| status.ready).await;
        fixture
    }

    /// Opens a folder, and does not wait until its plugins are loaded.
    async fn open(dir: TempDir, mut settings: Settings, store: Option<DataStore>) -> Self {
        settings.quiet = Duration::from_millis(30);
        settings.settle_time = settings.settle_time.min(SETTLE_TIME);
        let (hooks, lifecycle) = (Hooks::none(), Lifecycle::new());
        let folder = open(settings, store, &hooks, &lifecycle).await;
        Self { dir, hooks, lifecycle, folder }
    }

    /// Ends the gateway, and starts another one in the same folder.
    async fn restart(mut self, store: Option<DataStore>) -> Self {
        let dir = self.stop().await;
        let settings = Settings { dir: dir.path().to_owned(), instances: 64, ..Settings::default() };
        Self::open(dir, settings, store).await
    }

    /// Like `restart`, with a folder of versions that may return.
    async fn restart_keeping(mut self, store: Option<DataStore>, kept_dir: Option<PathBuf>) -> Self {
        let dir = self.stop().await;
        let settings = Settings { dir: dir.path().to_owned(), kept_dir, instances: 64, ..Settings::default() };
        Self::open(dir, settings, store).await
    }

    /// Ends the gateway, and returns its folder.
    async fn stop(&mut self) -> TempDir {
        assert!(self.lifecycle.stop(TEST_TIMEOUT).await);
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    /// Returns what readiness waits for.
    fn waits_for(&self) -> Vec<String> {
        let report = self.lifecycle.readiness().report(ReadyPolicy::Started);
        report.waiting.into_iter().map(|it| it.name).collect()
    }

    /// Opens a folder with one guest that implements one hook, bound to all environments.
    async fn of(hook: GuestHook, fragment: &str) -> Self {
        let wasm = Guest::new("zoo").hook(hook, fragment).component().unwrap();
        Self::with(&[("zoo.wasm", &wasm)]).await
    }

    /// Puts a file into the folder atomically, under another name first.
    fn put(&self, name: &str, content: &[u8]) {
        place(self.dir.path(), name, content);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    /// Runs `act` and waits for the resulting plan.
    async fn swap(&self, act: impl FnOnce(&Self)) {
        let mut changed = self.hooks.changed();
        changed.mark_unchanged();
        act(self);
        tokio::time::timeout(TEST_TIMEOUT, changed.changed()).await.expect("a new plan").unwrap();
    }

    /// Waits until the status satisfies a condition.
    async fn shows(&self, what: &str, shown: impl Fn(&FolderStatus) -> bool) {
        let wait = async {
            while !shown(&self.folder.status()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(TEST_TIMEOUT, wait).await.is_err() {
            panic!("not shown: {what}\n{:#?}", self.folder.status());
        }
    }

    fn plugin(&self, file: &str) -> PluginStatus {
        let status = self.folder.status();
        status.plugins.into_iter().find(|plugin| plugin.file == file).expect("a row for the file")
    }

    /// Returns the names of the plugins of a hook, in the order in which they are called.
    fn order(&self, hook: &str) -> Vec<String> {
        self.folder.status().order[hook].iter().map(|plugin| plugin.name.clone()).collect()
    }

    /// Returns the code and text of why a file is not used.
    fn refusal(&self, file: &str) -> (&'static str, String) {
        let refusal = self.plugin(file).refused.expect("a refusal");
        (refusal.code, refusal.text)
    }

    fn hooks_of(&self, environment: &str) -> Arc<EnvironmentHooks> {
        self.hooks.of(&label(environment))
    }

    async fn authenticate(&self) -> Result<Admission, HookFailure> {
        authenticate(&self.hooks_of("prod"), request()).await
    }

    async fn filter(&self, events: &[Event]) -> Filtering {
        filter(&self.hooks_of("prod"), events).await
    }

    async fn payload(&self) -> Result<Vec<PayloadEdit>, HookFailure> {
        payload(&self.hooks_of("prod")).await
    }

    async fn results(&self) -> Result<ResultEdits, HookFailure> {
        results(&self.hooks_of("prod")).await
    }

    async fn attributes(&self) -> Result<Vec<ContextAttribute>, HookFailure> {
        attributes(&self.hooks_of("prod")).await
    }

    /// Returns the number of calls of a hook with an outcome.
    fn calls(&self, plugin: &str, outcome: &str) -> u64 {
        let metrics = self.folder.metrics();
        let of_plugin = metrics.iter().filter(|metrics| metrics.plugin == plugin).flat_map(|metrics| &metrics.hooks);
        of_plugin.flat_map(|hook| &hook.outcomes).filter(|(name, _)| *name == outcome).map(|(_, count)| count).sum()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.lifecycle.token().cancel();
    }
}

async fn open(settings: Settings, store: Option<DataStore>, hooks: &Hooks, lifecycle: &Lifecycle) -> Arc<PluginFolder> {
    PluginFolder::open(settings, ready(store), hooks.clone(), lifecycle.readiness(), lifecycle).await.unwrap()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn place(dir: &Path, name: &str, content: &[u8]) {
    let partial = dir.join(format!(".{name}.part"));
    std::fs::write(&partial, content).unwrap();
    std::fs::rename(partial, dir.join(name)).unwrap();
}

fn label(environment: &str) -> EnvironmentLabel {
    EnvironmentLabel::new("vendor", environment)
}

fn request() -> RequestFacts {
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", "secret-canary"), ("x-tenant", "blue"), ("accept", "*/*")] {
        headers.append(name, value.parse().unwrap());
    }
    RequestFacts {
        head: RequestHead::new(&http::Uri::from_static("/all?filter=f"), &headers),
        credential: Some(Secret::new("sdk-canary")),
        client: Some(IpAddr::from([192, 0, 2, 7])),
        ..RequestFacts::new(label("prod"), "server.stream.all", "server")
    }
}

/// Returns the denial of the plugin `zoo`.
fn denied(class: DenialClass, retry_after: Option<u32>) -> Admission {
    Admission::Denied(Denial { retry_after, ..Denial::new("zoo".into(), class) })
}

/// Returns the name of an admitted caller, or what happened instead.
fn principal_of(admission: Result<Admission, HookFailure>) -> String {
    match admission {
        Ok(Admission::Allowed { identity: Some(identity), .. }) => identity.principal.clone(),
        other => format!("{other:?}"),
    }
}

/// Returns the result of a filter without added events.
fn decided(verdicts: impl Into<Vec<Verdict>>) -> Filtering {
    Filtering::Decided(Filtered { verdicts: verdicts.into(), added: Vec::new() })
}

fn event(body: &str) -> Event {
    Event { kind: Some("custom".into()), at_ms: Some(1), body: Bytes::copy_from_slice(body.as_bytes()) }
}

fn events(count: usize) -> Vec<Event> {
    (0..count).map(|n| event(&format!("{{\"n\":{n}}}"))).collect()
}

async fn authenticate(hooks: &EnvironmentHooks, facts: RequestFacts) -> Result<Admission, HookFailure> {
    hooks.request_auth.as_ref().expect("a request chain").authenticate(&Arc::new(facts)).await
}

async fn filter(hooks: &EnvironmentHooks, events: &[Event]) -> Filtering {
    filter_of(hooks, RequestFacts::new(label("prod"), "server.events", "server").into(), events).await
}

async fn filter_of(hooks: &EnvironmentHooks, request: AdmittedRequest, events: &[Event]) -> Filtering {
    // The kind of a written event is that of its text.
    let read = |body: Bytes| {
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        Event { kind: json["kind"].as_str().map(Arc::from), at_ms: None, body }
    };
    let facts = BatchFacts { request, schema: Some(4), read };
    hooks.event_filter.as_ref().expect("an event chain").filter(&facts, events).await
}

async fn payload(hooks: &EnvironmentHooks) -> Result<Vec<PayloadEdit>, HookFailure> {
    let facts = PayloadFacts { environment: label("prod") };
    hooks.payload_transform.as_ref().expect("a payload chain").transform(&facts, Arc::new(Items::new())).await
}

async fn results(hooks: &EnvironmentHooks) -> Result<ResultEdits, HookFailure> {
    let request = RequestFacts::new(label("prod"), "client.evaluate", "client").into();
    let facts = EvaluationFacts { request, context: Arc::new(Canary) };
    hooks.evaluation_transform.as_ref().expect("an evaluation chain").transform(&facts, Arc::new(Results)).await
}

async fn attributes(hooks: &EnvironmentHooks) -> Result<Vec<ContextAttribute>, HookFailure> {
    let facts = EnrichmentFacts { request: RequestFacts::new(label("prod"), "client.evaluate", "client").into() };
    hooks.context_enrichment.as_ref().expect("an enrichment chain").enrich(&facts, Arc::new(Canary)).await
}

/// Two flags, `a` in version 3 and `b` in version 4.
struct Items(Vec<ItemHead>);

impl Items {
    fn new() -> Self {
        let head = |key: &str, version| ItemHead { kind: "flag", key: key.into(), version, is_deleted: false };
        Self(vec![head("a", 3), head("b", 4)])
    }
}

impl PayloadView for Items {
    fn heads(&self) -> &[ItemHead] {
        &self.0
    }

    fn json(&self, index: usize) -> Option<Bytes> {
        let head = self.0.get(index)?;
        Some(format!("{{\"key\":\"{}\",\"version\":{}}}", head.key, head.version).into())
    }

    fn other(&self, _: &str, _: &str) -> Option<Bytes> {
        None
    }

    fn list(&self, _: &str) -> Vec<Arc<str>> {
        self.0.iter().map(|head| Arc::clone(&head.key)).collect()
    }
}

/// A user with the key `canary` and an attribute.
struct Canary;

impl ContextView for Canary {
    fn kinds(&self) -> Vec<&str> {
        vec!["user"]
    }

    fn key(&self, kind: &str) -> Option<&str> {
        (kind == "user").then_some("canary")
    }

    fn canonical_key(&self) -> std::borrow::Cow<'_, str> {
        "canary".into()
    }

    fn attributes(&self, _: &str) -> Vec<String> {
        vec!["plan".to_owned()]
    }

    fn attribute(&self, _: &str, name: &str) -> Option<String> {
        (name == "plan").then(|| "\"gold\"".to_owned())
    }
}

/// Two results, `a` and `b`, both false.
struct Results;

impl ResultView for Results {
    fn len(&self) -> usize {
        2
    }

    fn flag(&self, index: usize) -> Option<&str> {
        ["a", "b"].get(index).copied()
    }

    fn get(&self, index: usize) -> Option<ViewedResult> {
        let flag = self.flag(index)?.into();
        Some(ViewedResult { flag, value: "false".into(), variation: Some(0), reason: None })
    }

    fn find(&self, flag: &str) -> Option<usize> {
        ["a", "b"].iter().position(|known| *known == flag)
    }
}
