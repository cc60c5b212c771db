//! Changes under a payload plugin: what the plugin sees, and what streams receive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use yardarm_core::change_log::{Cursor, UpdateSource, Version};
use yardarm_core::hooks::{
    EnvironmentHooks, HookFailure, HookFuture, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView, Plan,
};
use yardarm_core::status::Status;
use yardarm_core::{EnvironmentLabel, environment};
use yardarm_vendor::environment::EnvironmentBase;

use super::*;
use crate::config::{EnvironmentConfig, LiveConfig, PLUGIN_RETRY};
use crate::data::{Channel, message};
use crate::environments::{EventMode, Phase};

/// Adds the value of the flag `rate` as `rate` to each other flag, and hides flags with `"hidden": true`.
#[derive(Default)]
struct AddRate {
    fails: AtomicBool,
    /// Keys of the items of each pass.
    passes: Mutex<Vec<Vec<String>>>,
}

impl PayloadTransform for AddRate {
    fn identity(&self) -> u64 {
        7
    }

    fn transform<'a>(
        &'a self,
        _: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        self.passes.lock().push(view.heads().iter().map(|it| it.key.to_string()).collect());
        let parse = |json: Bytes| serde_json::from_slice::<Value>(&json).expect("JSON");
        let edit = |(index, key): (usize, &Arc<str>)| {
            if **key == *"rate" {
                return None;
            }
            let mut item = parse(view.json(index)?);
            item["rate"] = view.other("flag", "rate").map_or(Value::Null, |it| parse(it)["value"].clone());
            let edited = PayloadEdit::Replace(index, item.to_string().into());
            Some(if item["hidden"] == true { PayloadEdit::Drop(index) } else { edited })
        };
        let edits = view.heads().iter().map(|it| &it.key).enumerate().filter_map(edit).collect();
        let failure = HookFailure { plugin: "rate".into(), class: "trap" };
        let result = if self.fails.load(Ordering::Relaxed) { Err(failure) } else { Ok(edits) };
        Box::pin(std::future::ready(result))
    }
}

struct OnePlan(Arc<EnvironmentHooks>);

impl Plan for OnePlan {
    fn generation(&self) -> u64 {
        1
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.0)
    }
}

struct Setup {
    hooks: Hooks,
    plugin: Arc<AddRate>,
    applier: Applier,
    source: Arc<dyn UpdateSource>,
    cursor: Cursor,
    /// What wakes the stream.
    _versions: tokio::sync::watch::Receiver<Version>,
}

impl Setup {
    /// An environment with these flags, and a plugin.
    async fn with(flags: &[Value]) -> Self {
        let mut setup = Self::without_plugin();
        setup.install(Some(Arc::clone(&setup.plugin) as _));
        setup.put(flags).await;
        setup.applier.run_until(pause()).await;
        setup.plugin.passes.lock().clear();
        setup.received();
        setup
    }

    fn without_plugin() -> Self {
        let config = EnvironmentConfig::for_tests("sdk-1");
        let (writer, data) = environment();
        let source = data.update_source();
        let environment = LdEnvironment {
            base: EnvironmentBase::new(EnvironmentLabel::new("launchdarkly", "main"), data, Status::new()),
            settings: LiveConfig::new(config),
            filter: "".into(),
            fdv2: None,
            events: EventMode::Off,
            store: None,
            ping_sources: Vec::new(),
            evaluated_streams: None,
            role: None,
            has_started: AtomicBool::new(false),
        };
        let hooks = Hooks::none();
        let writers = Writers { data: writer, fdv2: None };
        let applier = Applier::new(Arc::new(environment), writers, hooks.clone(), None);
        let versions = source.versions();
        let cursor = Cursor::new(Channel::All as usize, *versions.borrow());
        Self { hooks, plugin: Arc::default(), applier, source, cursor, _versions: versions }
    }

    fn install(&self, transform: Option<Arc<dyn PayloadTransform>>) {
        let chains = EnvironmentHooks { payload_transform: transform, ..EnvironmentHooks::default() };
        self.hooks.replace(Arc::new(OnePlan(Arc::new(chains))));
    }

    async fn put(&mut self, flags: &[Value]) {
        self.applies("put", &json!({"data": {"flags": by_key(flags), "segments": {}}})).await;
    }

    async fn patch(&mut self, flag: &Value) {
        let path = format!("/flags/{}", flag["key"].as_str().expect("a key"));
        self.applies("patch", &json!({"path": path, "data": flag})).await;
    }

    async fn delete(&mut self, key: &str, version: i64) {
        self.applies("delete", &json!({"path": format!("/flags/{key}"), "version": version})).await;
    }

    async fn applies(&mut self, event: &str, data: &Value) {
        let message = message::parse(event, data.to_string()).expect("a valid message");
        self.applier.apply(message.change.expect("a change")).await;
    }

    /// The events that a stream has received since the last call, each as its name and data.
    fn received(&mut self) -> Vec<(String, Value)> {
        let frames = std::iter::from_fn(|| self.source.next(&mut self.cursor));
        frames.map(|frame| event(std::str::from_utf8(&frame.payload()).expect("UTF-8"))).collect()
    }

    /// The passes of the plugin since the last call.
    fn passes(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.plugin.passes.lock())
    }
}

/// A source that is ready once other events are handled.
fn pause() -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_millis(1))
}

fn by_key(flags: &[Value]) -> Value {
    flags.iter().map(|it| (it["key"].as_str().expect("a key").to_owned(), it.clone())).collect()
}

fn event(text: &str) -> (String, Value) {
    let field = |name: &str| text.lines().find_map(|it| it.strip_prefix(name)).expect("a field").trim_start();
    (field("event:").to_owned(), serde_json::from_str(field("data:")).expect("JSON"))
}

fn flag(key: &str, version: i64) -> Value {
    json!({"key": key, "version": version})
}

fn rate(version: i64, value: i64) -> Value {
    json!({"key": "rate", "version": version, "value": value})
}

fn with_rate(key: &str, version: i64, rate: impl Into<Value>) -> Value {
    json!({"key": key, "version": version, "rate": rate.into()})
}

fn patch_event(flag: &Value) -> (String, Value) {
    let path = format!("/flags/{}", flag["key"].as_str().expect("a key"));
    ("patch".to_owned(), json!({"path": path, "data": flag}))
}

fn delete_event(key: &str, version: i64) -> (String, Value) {
    ("delete".to_owned(), json!({"path": format!("/flags/{key}"), "version": version}))
}

fn put_event(flags: &[Value]) -> (String, Value) {
    ("put".to_owned(), json!({"path": "/", "data": {"flags": by_key(flags), "segments": {}}}))
}

#[tokio::test]
async fn a_plugin_sees_the_changed_item_only() {
    let mut setup = Setup::with(&[flag("a", 1), flag("b", 1), rate(1, 10)]).await;
    setup.patch(&flag("a", 2)).await;
    assert_eq!(setup.passes(), [["a"]]);
    assert_eq!(setup.received(), [patch_event(&with_rate("a", 2, 10))]);
    setup.delete("b", 2).await;
    assert_eq!(setup.passes(), [["b"]], "plugins see deletions");
    assert_eq!(setup.received(), [delete_event("b", 2)]);
}

#[tokio::test]
async fn a_patch_or_a_deletion_of_an_item_that_a_plugin_read_transforms_everything() {
    let mut setup = Setup::with(&[flag("a", 1), rate(1, 10)]).await;
    setup.patch(&rate(2, 20)).await;
    assert_eq!(setup.passes(), [["a", "rate"]]);
    assert_eq!(setup.received(), [put_event(&[with_rate("a", 1, 20), rate(2, 20)])]);
    setup.delete("rate", 3).await;
    assert_eq!(setup.passes(), [["a"]]);
    assert_eq!(setup.received(), [put_event(&[with_rate("a", 1, Value::Null)])]);
    setup.patch(&rate(4, 40)).await;
    assert_eq!(setup.passes(), [["a", "rate"]], "the plugin looked for it");
    assert_eq!(setup.received(), [put_event(&[with_rate("a", 1, 40), rate(4, 40)])]);
}

#[tokio::test]
async fn a_hidden_item_is_deleted_for_sdks() {
    let mut setup = Setup::with(&[flag("a", 1), rate(1, 10)]).await;
    setup.patch(&json!({"key": "a", "version": 2, "hidden": true})).await;
    assert_eq!(setup.received(), [delete_event("a", 2)]);
    setup.patch(&flag("a", 3)).await;
    assert_eq!(setup.received(), [patch_event(&with_rate("a", 3, 10))]);
}

#[tokio::test]
async fn an_old_version_is_neither_transformed_nor_announced() {
    let mut setup = Setup::with(&[flag("a", 2), rate(2, 10)]).await;
    setup.patch(&flag("a", 2)).await;
    setup.patch(&rate(1, 99)).await;
    assert!(setup.passes().is_empty() && setup.received().is_empty());
    // As without plugins: a tombstone has nothing that a plugin could hide.
    setup.delete("a", 1).await;
    assert_eq!(setup.received(), [delete_event("a", 1)]);
    let mut setup = Setup::without_plugin();
    setup.put(&[flag("a", 2)]).await;
    setup.received();
    setup.patch(&flag("a", 1)).await;
    assert_eq!(setup.received(), [patch_event(&flag("a", 1))], "SDKs compare versions");
}

#[tokio::test]
async fn after_a_failure_the_next_change_transforms_everything() {
    let mut setup = Setup::with(&[flag("a", 1), flag("b", 1), rate(1, 10)]).await;
    setup.plugin.fails.store(true, Ordering::Relaxed);
    setup.patch(&flag("a", 2)).await;
    assert!(setup.received().is_empty());
    assert!(setup.applier.environment.is_behind());
    let held = setup.applier.upstream_items().expect("data");
    assert_eq!(held.flag_version("a"), Some(2), "the data from upstream has the change");
    setup.plugin.fails.store(false, Ordering::Relaxed);
    setup.passes();
    setup.patch(&flag("b", 1)).await;
    assert_eq!(setup.passes(), [["a", "b", "rate"]], "also after an old version");
    assert_eq!(setup.received(), [put_event(&[with_rate("a", 2, 10), with_rate("b", 1, 10), rate(1, 10)])]);
    assert!(!setup.applier.environment.is_behind());
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_failed_is_called_again_whatever_the_source_does() {
    let mut setup = Setup::with(&[flag("a", 1), rate(1, 10)]).await;
    setup.plugin.fails.store(true, Ordering::Relaxed);
    setup.patch(&flag("a", 2)).await;
    let start = Instant::now();
    while start.elapsed() < PLUGIN_RETRY * 5 / 2 {
        setup.applier.run_until(tokio::time::sleep(PLUGIN_RETRY / 4)).await;
    }
    assert_eq!(setup.passes().len(), 3, "at once, and twice later");
    setup.plugin.fails.store(false, Ordering::Relaxed);
    setup.applier.run_until(tokio::time::sleep(PLUGIN_RETRY * 10)).await;
    assert_eq!(setup.passes().len(), 1, "until it works");
    assert_eq!(setup.received(), [put_event(&[with_rate("a", 2, 10), rate(1, 10)])]);
}

#[tokio::test(start_paused = true)]
async fn data_that_a_plugin_held_back_at_first_makes_the_environment_ready() {
    let mut setup = Setup::without_plugin();
    setup.plugin.fails.store(true, Ordering::Relaxed);
    setup.install(Some(Arc::clone(&setup.plugin) as _));
    setup.put(&[rate(1, 10)]).await;
    setup.applier.environment.status.data_received();
    let changes = setup.applier.environment.status.changes();
    assert_ne!(setup.applier.environment.phase(), Phase::Ready);
    setup.plugin.fails.store(false, Ordering::Relaxed);
    setup.applier.run_until(tokio::time::sleep(PLUGIN_RETRY * 2)).await;
    assert_eq!(setup.applier.environment.phase(), Phase::Ready);
    assert!(changes.has_changed().expect("a status"), "tasks that wait for the phase are woken");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_plan_is_announced_if_it_makes_a_difference() {
    let mut setup = Setup::without_plugin();
    setup.applier.run_until(pause()).await;
    setup.put(&[rate(1, 10)]).await;
    setup.received();
    setup.install(Some(Arc::clone(&setup.plugin) as _));
    setup.applier.run_until(pause()).await;
    assert_eq!(setup.passes(), [["rate"]]);
    assert!(setup.received().is_empty(), "nothing is different");
    setup.patch(&flag("a", 1)).await;
    assert_eq!(setup.received(), [patch_event(&with_rate("a", 1, 10))]);
    setup.install(None);
    setup.applier.run_until(pause()).await;
    assert_eq!(setup.received(), [put_event(&[flag("a", 1), rate(1, 10)])]);
    setup.put(&[flag("a", 1), rate(1, 10)]).await;
    assert_eq!(setup.received().len(), 1, "a `put` from upstream is always announced");
}

mod change_sets;
mod followed;
