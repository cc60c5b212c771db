mod client;
mod data;
mod groups;
mod plugins;

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use yardarm_core::hooks::RequestFacts;
use yardarm_core::{Writer, environment};
use yardarm_launchdarkly_eval::evaluation::{Replaced, Ruleset, evaluate_all, evaluate_each};
use yardarm_launchdarkly_eval::model::Context;

use self::client::{Client, Rules};
use self::data::{KEYS, any_change, any_item, flag, put, segment, simple};
use self::plugins::{ADDED, Doing, Flaky, Nosy, Slow, no_plugins};
use super::delta::MOST_EVENTS;
use super::worker::GroupWorker;
use super::*;
use crate::data::{Change, Item};
use crate::evaluation::ResultFormat;
use crate::identity::SdkKind;

const ADA: &str = r#"{"kind":"user","key":"ada"}"#;

fn evaluation_request(context: &str, kind: SdkKind, with_reasons: bool) -> EvaluationRequest {
    let context = Context::parse(context.as_bytes()).expect("a context");
    let request = RequestFacts::new(EnvironmentLabel::new("v", "e"), "client.stream", kind.as_str()).into();
    EvaluationRequest {
        request,
        context: Arc::new(context.into()),
        enrichment: 0,
        kind,
        with_reasons,
        format: ResultFormat::Evalx,
        memberships: None,
    }
}

/// An environment with one group, whose task is run by hand.
fn registry() -> StreamRegistry {
    StreamRegistry::new(10)
}

struct Stage {
    hooks: Hooks,
    data: Environment<FlagData>,
    writer: Writer<FlagData>,
    worker: GroupWorker,
    group: Arc<dyn UpdateSource>,
    request: EvaluationRequest,
}

impl Stage {
    fn new(kind: SdkKind, with_reasons: bool) -> Self {
        let (writer, data) = environment();
        let hooks = Hooks::none();
        let label = EnvironmentLabel::new("launchdarkly", "test");
        let evaluators = ByTrust::from_fn(|_| Evaluators::start().unwrap());
        let streams = EvaluatedStreams::new(
            label,
            data.clone(),
            None,
            (hooks.clone(), registry()),
            &evaluators,
            Lifecycle::new(),
        );
        let (group_writer, group) = environment_with(LogLimits::SMALL);
        let source = group.update_source();
        let request = || evaluation_request(ADA, kind, with_reasons);
        let worker = GroupWorker::new(streams.0, request(), true, group_writer, group);
        Self { hooks, data, writer, worker, group: source, request: request() }
    }

    fn client(&self, rules: Rules) -> Client {
        Client::new(rules, Arc::clone(&self.group))
    }

    fn changes(&mut self, change: &Change) {
        self.writer.update(change);
    }

    fn patches(&mut self, item: Item) {
        self.changes(&Change::Patch(item));
    }

    /// Runs the group's task; returns whether it succeeded.
    fn catches_up(&mut self) -> bool {
        self.worker.catch_up().now_or_never().expect("nothing to wait for").is_ok()
    }

    /// The evalx body for the newest data, compiled from scratch.
    fn evalx(&self) -> Value {
        let Some(snapshot) = self.data.snapshot() else { return json!({}) };
        let items = snapshot.data().items();
        let mut out = Vec::new();
        let flags: Vec<_> = items.flags.iter().cloned().collect();
        let segments: Vec<_> = items.segments.iter().cloned().collect();
        evaluate_all(&Ruleset::build(None, &flags, &segments), &self.request.request(), &mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    /// The same with a plugin, which uses the keys that flags were sent under.
    fn evalx_with(&self, doing: &Doing) -> Value {
        let Some(snapshot) = self.data.snapshot() else { return json!({}) };
        let mut all = json!({});
        evaluate_each(snapshot.data().ruleset(), &self.request.request(), &mut |evaluated| {
            let mut entry = b"{".to_vec();
            evaluated.write_entry(Replaced::default(), self.request.with_reasons, &mut entry);
            entry.push(b'}');
            let mut entry: Value = serde_json::from_slice(&entry).expect("JSON");
            if doing.pins(evaluated.item_key()) {
                entry[evaluated.key()]["value"] = json!({"pinned": 1});
            }
            if !doing.hides(evaluated.item_key()) {
                all[evaluated.key()] = entry[evaluated.key()].take();
            }
        });
        if let Some(value) = doing.adds {
            all[ADDED] = json!({"value": value, "variation": 7});
            if self.request.with_reasons {
                all[ADDED]["reason"] = json!({"kind": "OFF"});
            }
        }
        all
    }
}

/// A stage with data, and a client that has read it.
fn with(items: impl IntoIterator<Item = Item>) -> (Stage, Client) {
    let mut stage = Stage::new(SdkKind::Browser, false);
    let mut client = stage.client(Rules::Current);
    assert!(stage.catches_up());
    assert!(client.received().is_empty(), "silent until there is data");
    stage.changes(&put(items));
    assert!(stage.catches_up());
    assert_eq!(client.received(), ["put"]);
    assert_eq!(client.results(), stage.evalx());
    (stage, client)
}

#[track_caller]
fn assert_sent(stage: &mut Stage, client: &mut Client, events: &[&str]) {
    assert!(stage.catches_up());
    assert_eq!(client.received(), events);
    assert_eq!(client.results(), stage.evalx());
}

fn hidden(mut flag: Value) -> Item {
    flag["clientSideAvailability"] = json!({"usingMobileKey": true, "usingEnvironmentId": false});
    data::flag(&flag)
}

fn many(count: usize, version: i64) -> Vec<Item> {
    (0..count).map(|it| flag(&simple(&format!("many{it:03}"), version, &json!(it)))).collect()
}

#[test]
fn each_change_is_sent_as_events_that_sdks_apply() {
    let needs = |key: &str, version: i64, of: &str| {
        let mut flag = simple(key, version, &json!("met"));
        flag["prerequisites"] = json!([{"key": of, "variation": 1}]);
        flag
    };
    let rule = json!({"variation": 0, "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["crew"]}]});
    let mut crewed = simple("crewed", 1, &json!(2));
    crewed["rules"] = json!([rule]);
    let mut start = many(30, 1);
    start.extend([&simple("a", 3, &json!(1)), &needs("b", 5, "a"), &crewed].map(flag));
    let (mut stage, mut client) = with(start);

    stage.patches(flag(&simple("a", 4, &json!("new"))));
    assert_sent(&mut stage, &mut client, &["patch"]);
    stage.patches(flag(&simple("a", 4, &json!("not newer"))));
    assert_sent(&mut stage, &mut client, &[]);
    stage.patches(segment(&json!({"key": "crew", "version": 1, "included": ["eve"]})));
    assert_sent(&mut stage, &mut client, &[]);
    stage.patches(segment(&json!({"key": "crew", "version": 2, "included": ["ada"]})));
    assert_sent(&mut stage, &mut client, &["put"]);

    // `b` has its old version and another value.
    let mut off = simple("a", 5, &json!("new"));
    off["on"] = json!(false);
    stage.patches(flag(&off));
    assert_sent(&mut stage, &mut client, &["put"]);
    assert_eq!(client.results()["b"]["value"], "off");
    stage.patches(flag(&simple("a", 6, &json!(1))));
    stage.patches(flag(&needs("b", 6, "a")));
    assert_sent(&mut stage, &mut client, &["patch", "patch"]);

    // Deleted and restored: its tombstone has a version too.
    stage.patches(flag(&json!({"key": "crewed", "version": 2, "deleted": true})));
    assert_sent(&mut stage, &mut client, &["delete"]);
    stage.patches(flag(&simple("crewed", 3, &json!(3))));
    assert_sent(&mut stage, &mut client, &["patch"]);
    stage.patches(hidden(simple("crewed", 4, &json!(4))));
    assert_sent(&mut stage, &mut client, &["delete"]);
    stage.patches(hidden(simple("crewed", 5, &json!(4))));
    assert_sent(&mut stage, &mut client, &[]);
    stage.patches(flag(&simple("crewed", 6, &json!(5))));
    assert_sent(&mut stage, &mut client, &["patch"]);
    // SDKs treat a version of zero as none.
    stage.patches(flag(&simple("zero", 0, &json!(1))));
    assert_sent(&mut stage, &mut client, &["put"]);
}

#[test]
fn a_full_set_is_sent_as_its_differences() {
    let start = || many(40, 1);
    let (mut stage, mut client) = with(start());
    stage.changes(&put(start()));
    assert_sent(&mut stage, &mut client, &[]);
    let with_newer = |count: usize| start().into_iter().skip(count).chain(many(count, 2));
    stage.changes(&put(with_newer(2)));
    assert_sent(&mut stage, &mut client, &["patch", "patch"]);
    stage.changes(&put(start()));
    assert_sent(&mut stage, &mut client, &["put"]); // lower versions
    stage.changes(&put(with_newer(MOST_EVENTS + 1)));
    assert_sent(&mut stage, &mut client, &["put"]); // too many
    stage.changes(&put(many(39, 2)));
    assert_sent(&mut stage, &mut client, &["put"]); // removed without a tombstone
    stage.changes(&put(many(3, 2)));
    assert_sent(&mut stage, &mut client, &["put"]);
    stage.changes(&put(many(3, 3)));
    assert_sent(&mut stage, &mut client, &["put"]); // in parts it would be longer
}

#[test]
fn a_deletion_is_remembered_without_a_tombstone_from_upstream() {
    let (mut stage, mut client) = with(many(9, 1).into_iter().chain([flag(&simple("a", 5, &json!(1)))]));
    stage.patches(flag(&json!({"key": "a", "version": 9, "deleted": true})));
    assert_sent(&mut stage, &mut client, &["delete"]);
    stage.changes(&put(many(9, 1)));
    assert_sent(&mut stage, &mut client, &[]);
    stage.patches(flag(&simple("a", 7, &json!(1))));
    assert_sent(&mut stage, &mut client, &["put"]);
    // The number of tombstones is bounded.
    stage.changes(&put(many(100, 1)));
    assert_sent(&mut stage, &mut client, &["put"]);
    let mut puts = 0;
    for index in 0..70 {
        stage.patches(flag(&json!({"key": format!("many{index:03}"), "version": 2, "deleted": true})));
        assert!(stage.catches_up());
        puts += client.received().iter().filter(|it| *it == "put").count();
        assert_eq!(client.results(), stage.evalx());
    }
    assert_eq!(puts, 1);
}

#[test]
fn simultaneous_changes_are_sent_together_and_a_slow_client_skips() {
    let (mut stage, mut client) = with(many(30, 1));
    let mut slow = stage.client(Rules::Legacy);
    assert_eq!(slow.received(), ["put"]);
    for version in 2..=6 {
        stage.patches(many(1, version).remove(0));
    }
    assert_sent(&mut stage, &mut client, &["patch"]);
    for version in 7..=40 {
        stage.patches(many(1, version).remove(0));
        assert_sent(&mut stage, &mut client, &["patch"]);
    }
    assert_eq!(slow.received(), ["put"]);
    assert_eq!(slow.results(), stage.evalx());
    stage.patches(many(1, 41).remove(0));
    assert!(stage.catches_up());
    assert_eq!(slow.received(), ["patch"]);
}

#[test]
fn plugins_edit_results_and_nothing_is_sent_while_they_fail() {
    let (mut stage, mut client) = with(many(9, 1).into_iter().chain([flag(&simple("a", 5, &json!(1)))]));
    let doing = Doing { pins: vec!["a"], hides: vec!["many001"], ..Doing::default() };
    stage.hooks.replace(doing.clone().plan());
    assert!(stage.catches_up());
    assert_eq!(client.received(), ["put"]);
    assert_eq!(client.results(), stage.evalx_with(&doing));
    stage.hooks.replace(doing.clone().plan());
    assert!(stage.catches_up());
    assert_eq!(client.received(), Vec::<String>::new(), "another plan that makes no difference");
    stage.patches(many(2, 2).remove(1));
    assert!(stage.catches_up());
    assert_eq!(client.received(), Vec::<String>::new(), "a change of a hidden flag");
    stage.patches(flag(&simple("a", 6, &json!(2))));
    assert!(stage.catches_up());
    assert_eq!(client.received(), ["patch"]);
    assert_eq!(client.results(), stage.evalx_with(&doing));

    let before = client.results();
    stage.hooks.replace(Doing { fails: true, ..doing.clone() }.plan());
    assert!(!stage.catches_up());
    stage.patches(flag(&simple("a", 7, &json!(3))));
    assert!(!stage.catches_up());
    assert_eq!(client.received(), Vec::<String>::new());
    assert_eq!(client.results(), before);
    let mut late = stage.client(Rules::Legacy);
    assert_eq!(late.received(), ["put"]);
    assert_eq!(late.results(), before);

    // Hidden flags are sent as new.
    stage.hooks.replace(no_plugins());
    assert_sent(&mut stage, &mut client, &["patch", "patch"]);
}

#[derive(Debug, Clone)]
enum Happening {
    Changes(Change),
    Plugs(Option<Doing>),
    CatchesUp,
    Reads(usize),
    Joins(Rules),
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let some = || subsequence(&KEYS[..], 0..3);
    let adds = prop::option::of(0_u8..2);
    let doing = (some(), some(), adds, prop::bool::weighted(0.2)).prop_map(|(hides, pins, adds, fails)| Doing {
        pins: pins.into_iter().filter(|it| !hides.contains(it)).collect(),
        hides,
        adds,
        fails,
    });
    let rules = select(vec![Rules::Legacy, Rules::Current]);
    prop_oneof![
        40 => any_change().prop_map(Happening::Changes),
        20 => Just(Happening::CatchesUp),
        20 => (0_usize..8).prop_map(Happening::Reads),
        4 => rules.prop_map(Happening::Joins),
        1 => prop::option::of(doing).prop_map(Happening::Plugs),
    ]
}

proptest! {
    /// For any changes in any order, a client that has read all events has the results of evalx.
    #[test]
    fn clients_end_up_with_what_evalx_answers(
        start in prop::collection::vec(any_item(), 0..16),
        happenings in prop::collection::vec(any_happening(), 1..80),
        kind in select(vec![SdkKind::Mobile, SdkKind::Browser]),
        with_reasons in any::<bool>(),
    ) {
        let mut stage = Stage::new(kind, with_reasons);
        let mut clients = vec![stage.client(Rules::Legacy), stage.client(Rules::Current)];
        stage.changes(&put(start));
        let mut doing = None;
        for happening in happenings {
            match happening {
                Happening::Changes(change) => stage.changes(&change),
                Happening::CatchesUp => {
                    stage.catches_up();
                }
                Happening::Joins(rules) => clients.push(stage.client(rules)),
                Happening::Reads(index) => {
                    let count = clients.len();
                    clients[index % count].reads();
                }
                Happening::Plugs(new) => {
                    stage.hooks.replace(new.clone().map_or_else(no_plugins, Doing::plan));
                    doing = new;
                }
            }
        }
        if let Some(doing) = doing.as_mut().filter(|it| it.fails) {
            prop_assert!(!stage.catches_up());
            doing.fails = false;
            stage.hooks.replace(doing.clone().plan());
        }
        prop_assert!(stage.catches_up());
        let expected = doing.map_or_else(|| stage.evalx(), |it| stage.evalx_with(&it));
        for client in &mut clients {
            let received = client.received();
            prop_assert_eq!(&client.results(), &expected, "{:?}", received);
        }
        // Nothing more is sent.
        prop_assert!(stage.catches_up());
        prop_assert!(clients.iter_mut().all(|it| it.received().is_empty()));
    }
}
