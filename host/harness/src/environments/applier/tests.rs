use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use yardarm_core::hooks::{
    EnvironmentHooks, HookFailure, HookFuture, PayloadEdit, PayloadFacts, PayloadTransform, PayloadView, Plan,
};
use yardarm_core::status::Status;
use yardarm_core::{EnvironmentLabel, Lifecycle, Workers, environment};
use yardarm_harness_eval::model::Flag;

use super::*;
use crate::data::items::Domain;
use crate::data::received::ReadList;
use crate::data::targets::TargetBudget;
use crate::environments::environment::EnvironmentParts;
use crate::identity::{Identity, Session};
use crate::metrics::MetricsPort;

/// Gives each flag the state of the flag `base`, hides those that are named `hidden…`, and adds `copy` for `a`.
#[derive(Default)]
struct FollowBase {
    fails: AtomicBool,
    passes: Mutex<Vec<Vec<String>>>,
}

impl PayloadTransform for FollowBase {
    fn identity(&self) -> u64 {
        7
    }

    fn transform<'a>(
        &'a self,
        _: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        Box::pin(async move {
            self.passes.lock().push(view.heads().iter().map(|it| it.key.to_string()).collect());
            if self.fails.load(Ordering::Relaxed) {
                return Err(HookFailure { plugin: "base".into(), class: "trap" });
            }
            let mut edits = Vec::new();
            for (index, head) in view.heads().iter().enumerate().filter(|(_, it)| !it.is_deleted && &*it.key != "base")
            {
                let mut flag: Value = serde_json::from_slice(&view.json(index).expect("an item")).expect("JSON");
                if head.key.starts_with("hidden") || flag["hide"] == true {
                    edits.push(PayloadEdit::Drop(index));
                    continue;
                }
                let base = view.other("flag", "base").map(|it| serde_json::from_slice::<Value>(&it).expect("JSON"));
                flag["state"] = base.map_or("off".into(), |it| it["state"].clone());
                edits.push(PayloadEdit::Replace(index, flag.to_string().into()));
                if &*head.key == "a" {
                    let json = json!({"feature": "copy", "version": 1, "copied": head.version}).to_string().into();
                    edits.push(PayloadEdit::Add {
                        kind: "flag".to_owned(),
                        key: "copy".to_owned(),
                        json,
                        derived_from: None,
                    });
                }
            }
            Ok(edits)
        })
    }
}

struct OneChain(Arc<EnvironmentHooks>);

impl Plan for OneChain {
    fn generation(&self) -> u64 {
        1
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.0)
    }
}

struct Setup {
    hooks: Hooks,
    chain: Arc<FollowBase>,
    applier: Applier,
    /// Number of changes that were checked.
    seen: usize,
}

impl Setup {
    /// An environment with the flags `base` and `a`, and a payload plugin.
    async fn new() -> Self {
        let mut setup = Self::without_plugin();
        setup.install(true);
        setup.put(&json!([flag("base", 1, "on"), flag("a", 1, "off")])).await;
        assert_eq!(setup.passes(), [["base", "a"]]);
        assert_eq!(setup.announced(), ["everything: 3 flags, 0 segments"]);
        setup
    }

    fn without_plugin() -> Self {
        let (hooks, lifecycle, label) = (Hooks::none(), Lifecycle::new(), EnvironmentLabel::new("harness", "e"));
        let workers = Workers::start("test", 1).expect("a thread");
        let (writer, data) = environment();
        let environment = Arc::new(HarnessEnvironment::new(EnvironmentParts {
            label: label.clone(),
            status: Status::new(),
            session: Session::remembered(Identity::default()),
            data,
            metrics: MetricsPort::start(hooks.clone(), workers, false, &lifecycle),
            persisted: None,
            token_refused: Arc::default(),
            changed: Arc::default(),
            target_budget: TargetBudget::new(1 << 20),
            signing: None,
        }));
        Self { applier: Applier::new(environment, writer, hooks.clone(), true), hooks, chain: Arc::default(), seen: 0 }
    }

    fn install(&self, is_bound: bool) {
        let payload_transform = is_bound.then(|| Arc::clone(&self.chain) as Arc<dyn PayloadTransform>);
        let chains = EnvironmentHooks { payload_transform, ..EnvironmentHooks::default() };
        self.hooks.replace(Arc::new(OneChain(Arc::new(chains))));
    }

    async fn put(&mut self, flags: &Value) {
        let flags = Some(ReadList::from_json(&flags.to_string()).expect("flags"));
        self.applier.put(Received { flags, segments: None }).await;
    }

    async fn patch(&mut self, json: Value) {
        let flag = Arc::new(Flag::read(json).expect("a flag"));
        let event = event("patch", &flag.feature, flag.version);
        self.applier.patch(Item::Flag(flag), event).await;
    }

    async fn delete(&mut self, name: &str) {
        self.applier.delete(event("delete", name, 9)).await;
    }

    /// Keys of the items of each pass since the last call.
    fn passes(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *self.chain.passes.lock())
    }

    /// Changes that were served since the last call, in order.
    fn announced(&mut self) -> Vec<String> {
        let recent = self.applier.environment.report("ready").recent_changes;
        let mut texts: Vec<_> = recent.into_iter().map(|it| it.text).collect();
        texts.reverse();
        texts.split_off(std::mem::replace(&mut self.seen, texts.len()))
    }

    /// Name, version and state of each flag that is served.
    fn flags(&self) -> Vec<(String, i64, Value)> {
        let snapshot = self.applier.writer.snapshot().expect("data");
        let flag = |it: &Arc<Flag>| {
            let json: Value = serde_json::from_slice(it.json()).expect("JSON");
            (it.feature.to_string(), it.version, json["state"].clone())
        };
        let mut flags: Vec<_> = snapshot.data().items().flags.iter().map(flag).collect();
        flags.sort_by(|a, b| a.0.cmp(&b.0));
        flags
    }
}

fn flag(name: &str, version: i64, state: &str) -> Value {
    json!({"feature": name, "version": version, "state": state})
}

fn event(event: &str, name: &str, version: i64) -> ChangeEvent {
    ChangeEvent { event: event.to_owned(), domain: Domain::Flag, identifier: name.to_owned(), version }
}

fn served(name: &str, version: i64, state: &str) -> (String, i64, Value) {
    (name.to_owned(), version, state.into())
}

const NO_CHANGE: [&str; 0] = [];

#[tokio::test]
async fn plugins_see_only_the_changed_item() {
    let mut setup = Setup::new().await;
    setup.patch(flag("a", 2, "off")).await;
    assert_eq!(setup.passes(), [["a"]]);
    let expected = ["flag `a`: patch, version 2", "flag `copy`: patch, version 1"];
    assert_eq!(setup.announced(), expected, "an added item changes without a new version");
    setup.patch(flag("new", 1, "off")).await;
    assert_eq!(setup.passes(), [["new"]]);
    assert_eq!(setup.announced(), ["flag `new`: patch, version 1"]);
    assert_eq!(
        setup.flags(),
        [served("a", 2, "on"), served("base", 1, "on"), served("copy", 1, "off"), served("new", 1, "on")],
        "as the plugin returns them"
    );
    setup.patch(flag("a", 1, "off")).await;
    assert_eq!(setup.announced(), ["flag `a`: patch, version 1"], "an old version is announced");
    assert_eq!(setup.flags()[0], served("a", 2, "on"), "and not served");
    setup.delete("a").await;
    assert_eq!(setup.announced(), ["flag `a`: delete, version 9"]);
    setup.delete("a").await;
    assert_eq!(setup.announced(), NO_CHANGE);
}

#[tokio::test]
async fn a_change_of_an_item_that_a_plugin_read_transforms_everything() {
    let mut setup = Setup::new().await;
    setup.patch(flag("base", 2, "off")).await;
    assert_eq!(setup.passes(), [["base", "a"]]);
    let expected = ["everything: 3 flags, 0 segments", "flag `base`: patch, version 2", "flag `a`: patch, version 1"];
    assert_eq!(setup.announced(), expected);
    assert_eq!(setup.flags()[..1], [served("a", 1, "off")]);
    setup.patch(flag("base", 3, "on")).await;
    setup.passes();
    setup.announced();
    setup.delete("base").await;
    assert_eq!(setup.passes(), [["a"]]);
    let expected = ["everything: 2 flags, 0 segments", "flag `a`: patch, version 1", "flag `base`: delete, version 3"];
    assert_eq!(setup.announced(), expected);
}

#[tokio::test]
async fn hidden_items_are_deleted_if_they_were_served() {
    let mut setup = Setup::new().await;
    setup.patch(flag("hidden", 1, "on")).await;
    assert_eq!(setup.announced(), NO_CHANGE, "SDKs never had it");
    setup.delete("hidden").await;
    assert_eq!(setup.announced(), NO_CHANGE);
    setup.patch(flag("b", 1, "on")).await;
    setup.announced();
    setup.patch(json!({"feature": "b", "version": 2, "state": "on", "hide": true})).await;
    assert_eq!(setup.announced(), ["flag `b`: delete, version 2"]);
    assert!(setup.flags().iter().all(|it| it.0 != "b"));
    setup.patch(flag("b", 3, "on")).await;
    assert_eq!(setup.announced(), ["flag `b`: patch, version 3"]);
    assert_eq!(setup.flags()[2], served("base", 1, "on"));
}

#[tokio::test]
async fn after_a_failure_everything_is_transformed_again() {
    let mut setup = Setup::new().await;
    setup.chain.fails.store(true, Ordering::Relaxed);
    setup.patch(flag("a", 2, "off")).await;
    setup.patch(flag("b", 1, "off")).await;
    assert!(setup.applier.is_behind());
    assert_eq!(setup.announced(), NO_CHANGE);
    assert_eq!(setup.flags()[..1], [served("a", 1, "on")], "the previous data is served");
    setup.chain.fails.store(false, Ordering::Relaxed);
    setup.passes();
    setup.applier.plan_changed().await;
    assert!(!setup.applier.is_behind());
    assert_eq!(setup.passes(), [["base", "a", "b"]]);
    let expected = [
        "everything: 4 flags, 0 segments",
        "flag `a`: patch, version 2",
        "flag `b`: create, version 1",
        "flag `copy`: patch, version 1",
    ];
    assert_eq!(setup.announced(), expected);
    setup.applier.plan_changed().await;
    assert_eq!((setup.passes().len(), setup.announced().len()), (0, 0));
}

#[tokio::test]
async fn without_plugins_data_is_served_as_it_came() {
    let mut setup = Setup::without_plugin();
    setup.put(&json!([flag("a", 1, "on")])).await;
    setup.patch(flag("a", 2, "on")).await;
    setup.delete("x").await;
    let expected = ["everything: 1 flags, 0 segments", "flag `a`: patch, version 2", "flag `x`: delete, version 9"];
    assert_eq!(setup.announced(), expected);
    setup.install(true);
    setup.applier.plan_changed().await;
    assert_eq!(setup.flags()[0], served("a", 2, "off"), "there is no `base`");
    setup.announced();
    setup.install(false);
    setup.patch(flag("b", 1, "off")).await;
    let expected = [
        "everything: 2 flags, 0 segments",
        "flag `a`: patch, version 2",
        "flag `b`: create, version 1",
        "flag `copy`: delete, version 1",
    ];
    assert_eq!(setup.announced(), expected, "everything is served as upstream sent it");
    assert_eq!(setup.flags()[..1], [served("a", 2, "on")]);
}

#[tokio::test]
async fn a_change_that_was_not_finished_is_repeated_with_the_next_one() {
    let mut setup = Setup::new().await;
    setup.applier.is_unfinished = true;
    setup.applier.unannounced.push(event("patch", "base", 1));
    setup.put(&json!([flag("base", 1, "on"), flag("a", 1, "off")])).await;
    assert_eq!(setup.announced(), ["flag `base`: patch, version 1"]);
    setup.applier.is_unfinished = true;
    setup.passes();
    setup.patch(flag("a", 2, "off")).await;
    assert_eq!(setup.passes(), [["base", "a"]]);
    assert!(!setup.applier.is_unfinished);
}
