use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use yardarm_core::hooks::{EnvironmentHooks, HookFuture, Plan};

use super::*;

/// An item whose text is a number.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Number {
    key: Arc<str>,
    version: u64,
    value: i64,
}

type Numbers = BTreeMap<Arc<str>, Number>;

impl PayloadItem for Number {
    type Items = Numbers;

    const NEEDS_HIGHER_VERSION: bool = true;

    fn head(&self) -> ItemHead {
        ItemHead { kind: "number", key: Arc::clone(&self.key), version: self.version, is_deleted: false }
    }

    fn json(&self) -> Bytes {
        format!("{} {}", self.version, self.value).into()
    }

    fn live(items: &Numbers) -> Vec<Self> {
        items.values().cloned().collect()
    }

    fn find(items: &Numbers, kind: &str, key: &str) -> Option<Bytes> {
        items.get(key).filter(|_| kind == "number").map(Self::json)
    }

    fn read(kind: &str, key: &str, json: &Bytes) -> Option<Self> {
        let (version, value) = std::str::from_utf8(json).ok()?.split_once(' ')?;
        let (version, value) = (version.parse().ok()?, value.parse().ok()?);
        (kind == "number").then(|| Self { key: key.into(), version, value })
    }
}

/// Adds the value of the item `rate` to that of each item, and hides negative ones.
struct AddRate {
    identity: u64,
    fails: AtomicBool,
    passes: Mutex<Vec<Vec<String>>>,
}

impl PayloadTransform for AddRate {
    fn identity(&self) -> u64 {
        self.identity
    }

    fn transform<'a>(
        &'a self,
        _: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        Box::pin(async move {
            self.passes.lock().push(view.heads().iter().map(|it| it.key.to_string()).collect());
            if self.fails.load(Ordering::Relaxed) {
                return Err(HookFailure { plugin: "rate".into(), class: "trap" });
            }
            let mut edits = Vec::new();
            let is_wanted = |it: &ItemHead| &*it.key != "rate" && !it.is_deleted;
            for (index, head) in view.heads().iter().enumerate().filter(|(_, it)| is_wanted(it)) {
                let read = |json: Bytes| Number::read("number", "x", &json).expect("a number").value;
                let rate = view.other("number", "rate").map_or(0, read);
                match read(view.json(index).expect("an item")) + rate {
                    value if value < 0 => edits.push(PayloadEdit::Drop(index)),
                    value => edits.push(PayloadEdit::Replace(index, format!("{} {value}", head.version).into())),
                }
            }
            Ok(edits)
        })
    }
}

struct OneChain(AtomicU64, Arc<EnvironmentHooks>);

impl Plan for OneChain {
    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.1)
    }
}

fn install(hooks: &Hooks, transform: Option<Arc<dyn PayloadTransform>>) {
    let chains = EnvironmentHooks { payload_transform: transform, ..EnvironmentHooks::default() };
    hooks.replace(Arc::new(OneChain(AtomicU64::new(1), Arc::new(chains))));
}

fn chain(identity: u64) -> Arc<AddRate> {
    Arc::new(AddRate { identity, fails: AtomicBool::new(false), passes: Mutex::default() })
}

fn number(key: &str, version: u64, value: i64) -> Number {
    Number { key: key.into(), version, value }
}

struct Setup {
    hooks: Hooks,
    items: Numbers,
    pipeline: PayloadPipeline<Number>,
}

impl Setup {
    fn new() -> Self {
        let hooks = Hooks::none();
        let pipeline = PayloadPipeline::new(EnvironmentLabel::new("v", "e"), hooks.clone());
        Self { hooks, items: Numbers::new(), pipeline }
    }

    async fn put(&mut self, items: &[Number]) -> Served<Number> {
        self.items = items.iter().map(|it| (Arc::clone(&it.key), it.clone())).collect();
        self.pipeline.everything(self.items.clone()).await
    }

    async fn patch(&mut self, item: Number) -> Served<Number> {
        self.items.insert(Arc::clone(&item.key), item.clone());
        self.pipeline.change(&item, self.items.clone()).await
    }

    async fn remove(&mut self, key: &str) -> Served<Number> {
        let item = self.items.remove(key).expect("an item");
        self.pipeline.remove(&item.head(), self.items.clone()).await
    }
}

#[tokio::test]
async fn a_change_of_an_item_that_was_read_transforms_everything() {
    let mut setup = Setup::new();
    let rate = chain(7);
    install(&setup.hooks, Some(Arc::clone(&rate) as _));
    let everything = setup.put(&[number("a", 1, 1), number("b", 1, 2), number("rate", 1, 10)]).await;
    assert_eq!(everything, Served::Everything(vec![number("a", 1, 11), number("b", 1, 12), number("rate", 1, 10)]));
    assert_eq!(setup.patch(number("a", 2, 5)).await, Served::Changed(vec![number("a", 2, 15)]));
    assert_eq!(setup.patch(number("a", 3, -50)).await, Served::Changed(Vec::new()), "hidden");
    let Served::Everything(all) = setup.patch(number("rate", 2, 100)).await else { panic!("`rate` was read") };
    assert_eq!(all, [number("a", 3, 50), number("b", 1, 102), number("rate", 2, 100)]);
    let Served::Everything(all) = setup.remove("rate").await else { panic!("`rate` was read") };
    assert_eq!(all, [number("b", 1, 2)], "an item that is missing was read too");
    let Served::Everything(all) = setup.patch(number("rate", 3, 1)).await else { panic!("`rate` was looked for") };
    assert_eq!(all.len(), 2);
    assert_eq!(setup.remove("b").await, Served::Changed(Vec::new()), "nothing depends on it");
    let passes: Vec<usize> = rate.passes.lock().iter().map(Vec::len).collect();
    assert_eq!(passes, [3, 1, 1, 3, 2, 3, 1], "plugins see the changed items only");
}

#[tokio::test]
async fn without_plugins_data_is_served_as_it_came() {
    let mut setup = Setup::new();
    assert_eq!(setup.put(&[number("a", 1, 1)]).await, Served::Upstream);
    assert_eq!(setup.patch(number("a", 2, 1)).await, Served::Upstream);
    assert_eq!(setup.remove("a").await, Served::Upstream);
    assert!(setup.pipeline.untransformed().is_none() && !setup.pipeline.is_outdated());
    assert!(setup.pipeline.is_idle());
    install(&setup.hooks, Some(chain(1)));
    assert!(!setup.pipeline.is_idle(), "a chain is in force");
    setup.put(&[number("a", 3, 1)]).await;
    install(&setup.hooks, None);
    assert!(!setup.pipeline.is_idle(), "a chain made what is served");
    setup.put(&[number("a", 4, 1)]).await;
    assert!(setup.pipeline.is_idle());
}

#[tokio::test]
async fn another_chain_sees_everything() {
    let mut setup = Setup::new();
    setup.put(&[number("a", 1, 1), number("b", 1, 2)]).await;
    install(&setup.hooks, Some(chain(1)));
    assert!(setup.pipeline.is_outdated());
    assert!(matches!(setup.patch(number("a", 2, 1)).await, Served::Everything(all) if all.len() == 2));
    assert!(setup.pipeline.untransformed().is_some());
    install(&setup.hooks, Some(chain(2)));
    assert!(matches!(setup.remove("b").await, Served::Everything(all) if all.len() == 1));
    install(&setup.hooks, None);
    assert_eq!(setup.patch(number("a", 3, 1)).await, Served::Upstream);
    assert!(setup.pipeline.untransformed().is_none() && !setup.pipeline.is_outdated());
}

#[tokio::test]
async fn after_a_failure_everything_is_transformed_again() {
    let mut setup = Setup::new();
    let rate = chain(1);
    install(&setup.hooks, Some(Arc::clone(&rate) as _));
    setup.put(&[number("a", 1, 1), number("b", 1, 2)]).await;
    rate.fails.store(true, Ordering::Relaxed);
    assert_eq!(setup.patch(number("a", 2, 5)).await, Served::Previous);
    assert!(setup.pipeline.is_behind() && setup.pipeline.is_outdated());
    assert_eq!(setup.patch(number("b", 2, 5)).await, Served::Previous);
    rate.fails.store(false, Ordering::Relaxed);
    let served = setup.pipeline.everything(setup.items.clone()).await;
    assert_eq!(served, Served::Everything(vec![number("a", 2, 5), number("b", 2, 5)]));
    assert!(!setup.pipeline.is_behind());
}

/// Replaces the first item by `json`, or adds an item.
struct Returns(PayloadEdit);

impl PayloadTransform for Returns {
    fn identity(&self) -> u64 {
        9
    }

    fn transform<'a>(
        &'a self,
        _: &'a PayloadFacts,
        _: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        Box::pin(std::future::ready(Ok(vec![self.0.clone()])))
    }
}

#[tokio::test]
async fn invalid_items_of_plugins_are_a_failure() {
    let add = |kind: &str, json: &'static str| PayloadEdit::Add {
        kind: kind.to_owned(),
        key: "new".to_owned(),
        json: json.into(),
        derived_from: None,
    };
    for (edit, is_valid) in [
        (PayloadEdit::Replace(0, "1 7".into()), true),
        (PayloadEdit::Replace(0, "2 7".into()), false), // another version
        (PayloadEdit::Replace(0, "no number".into()), false),
        (PayloadEdit::Replace(9, "1 7".into()), true), // no such item
        (PayloadEdit::Drop(9), true),
        (add("number", "1 1"), true),
        (PayloadEdit::Add { kind: "number".into(), key: "a".into(), json: "1 1".into(), derived_from: None }, false),
        (add("letter", "1 1"), false),
        (add("number", "x"), false),
    ] {
        let mut setup = Setup::new();
        install(&setup.hooks, Some(Arc::new(Returns(edit.clone()))));
        let served = setup.put(&[number("a", 1, 1)]).await;
        assert_eq!(matches!(served, Served::Everything(_)), is_valid, "{edit:?}");
    }
}

/// Renames each item whose value is positive, and counts all items in one named `count`.
struct Rename {
    counts: bool,
}

impl PayloadTransform for Rename {
    fn identity(&self) -> u64 {
        11
    }

    fn transform<'a>(
        &'a self,
        _: &'a PayloadFacts,
        view: Arc<dyn PayloadView>,
    ) -> HookFuture<'a, Result<Vec<PayloadEdit>, HookFailure>> {
        Box::pin(async move {
            let mut edits = Vec::new();
            let add = |key: String, json: String, derived_from| PayloadEdit::Add {
                kind: "number".to_owned(),
                key,
                json: json.into(),
                derived_from,
            };
            for (index, head) in view.heads().iter().enumerate() {
                assert_eq!(view.json(index).is_none(), head.is_deleted);
                let Some(json) = view.json(index) else { continue };
                if Number::read("number", "x", &json).expect("a number").value > 0 {
                    let text = String::from_utf8_lossy(&json).into_owned();
                    edits.extend([PayloadEdit::Drop(index), add(format!("new-{}", head.key), text, Some(index))]);
                }
            }
            if self.counts {
                edits.push(add("count".to_owned(), format!("1 {}", view.list("number").len()), None));
            }
            Ok(edits)
        })
    }
}

#[tokio::test]
async fn an_addition_goes_with_the_item_that_it_is_derived_from() {
    let mut setup = Setup::new();
    install(&setup.hooks, Some(Arc::new(Rename { counts: false })));
    let everything = setup.put(&[number("a", 1, 1), number("b", 1, 2)]).await;
    assert_eq!(everything, Served::Everything(vec![number("new-a", 1, 1), number("new-b", 1, 2)]));
    assert_eq!(setup.patch(number("a", 2, 5)).await, Served::Changed(vec![number("new-a", 2, 5)]));
    assert_eq!(
        setup.patch(number("a", 3, -5)).await,
        Served::Everything(vec![number("a", 3, -5), number("new-b", 1, 2)])
    );
    assert_eq!(setup.patch(number("a", 4, 6)).await, Served::Changed(vec![number("new-a", 4, 6)]));
    assert_eq!(setup.remove("a").await, Served::Everything(vec![number("new-b", 1, 2)]));
    assert_eq!(setup.patch(number("c", 1, -1)).await, Served::Changed(vec![number("c", 1, -1)]));
    assert_eq!(setup.remove("c").await, Served::Changed(Vec::new()));
    let taken = setup.patch(number("new-b", 1, -7)).await;
    assert_eq!(taken, Served::Previous, "upstream has an item of the name that the plugin gives to another");
}

#[tokio::test]
async fn a_chain_that_lists_items_sees_everything_when_the_list_changes() {
    let mut setup = Setup::new();
    install(&setup.hooks, Some(Arc::new(Rename { counts: true })));
    setup.put(&[number("a", 1, -1)]).await;
    assert_eq!(setup.patch(number("a", 2, -2)).await, Served::Changed(vec![number("a", 2, -2), number("count", 1, 1)]));
    let more = setup.patch(number("b", 1, -1)).await;
    assert_eq!(more, Served::Everything(vec![number("a", 2, -2), number("b", 1, -1), number("count", 1, 2)]));
    let fewer = setup.remove("b").await;
    assert_eq!(fewer, Served::Everything(vec![number("a", 2, -2), number("count", 1, 1)]));
}
