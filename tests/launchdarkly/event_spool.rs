//! Accepted events on disk: neither an outage of LaunchDarkly nor the end of the process loses one, and they arrive in
//! order.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, until, within};

use super::events::{bulk, events, with_schema};
use crate::flags::some_data;
use crate::program::{Program, Signal};
use crate::running::{ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

struct Place {
    cloud: FakeLaunchDarkly,
    dir: TempDir,
}

impl Place {
    async fn new() -> Self {
        let place = Self { cloud: FakeLaunchDarkly::start().await, dir: TempDir::new().expect("a temporary folder") };
        place.configures(|setup| setup);
        place.cloud.puts(SDK_KEY, &some_data());
        place
    }

    /// Writes the configuration.
    fn configures(&self, change: impl FnOnce(Setup) -> Setup) {
        let setup =
            Setup::new().events().set("log.format", "json").set("data.dir", self.data().to_str().expect("a path"));
        change(setup).write(&self.cloud.url(), self.dir.path());
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn program(&self) -> Program {
        let program = Program::start(self.dir.path()).await;
        within("`/ready`", program.wait_until_ready()).await;
        program
    }

    /// Waits until this many events have arrived at a path, and returns them.
    async fn arrived(&self, path: &str, count: usize) -> Vec<Value> {
        until("events at LaunchDarkly", || events(&self.cloud, path).len() >= count).await;
        events(&self.cloud, path)
    }
}

async fn ledger(program: &Program) -> Value {
    program.operator_gets("/api/environments").await.json()["environments"][0]["events"].clone()
}

/// Waits until no event is pending.
async fn settled(program: &Program) -> Value {
    within("delivered events", async {
        loop {
            let report = ledger(program).await;
            if report["pending"] == 0 {
                return report;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn accepts(program: &Program, call: &Call) {
    assert_eq!(program.answers(call).await.status, 202);
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[tokio::test]
async fn an_outage_loses_no_event_and_keeps_their_order() {
    let place = Place::new().await;
    place.configures(|setup| setup.set("launchdarkly.events_capacity", 5));
    let program = place.program().await;
    place.cloud.refuses_posts(true);
    for number in 0..40 {
        accepts(&program, &bulk(&json!([number]))).await;
        if number == 20 {
            // Beyond the only retry, and beyond the time from which upstream does not keep up any more.
            until("the outage is known", || program.has_logged("events wait on disk until upstream takes them")).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
    let report = ledger(&program).await;
    assert_eq!((&report["pending"], &report["dropped"]), (&json!(40), &json!([])), "{report}");
    place.cloud.refuses_posts(false);
    assert_eq!(place.arrived("/bulk", 40).await, numbers(0..40));
    let report = settled(&program).await;
    assert_eq!((&report["delivered"], &report["dropped"]), (&json!(40), &json!([])), "{report}");
    program.signal(Signal::TERM);
    program.ends().await;
    let program = place.program().await;
    assert_eq!(ledger(&program).await["received"], 0, "nothing of it is left on disk");
}

#[tokio::test]
async fn a_kill_loses_no_accepted_event() {
    let place = Place::new().await;
    place.configures(|setup| setup.set("launchdarkly.events_flush_interval", "1h"));
    let program = place.program().await;
    accepts(&program, &bulk(&json!([{"kind": "custom", "key": "a"}, 2]))).await;
    accepts(&program, &with_schema(Call::post("/mobile", json!([3]).to_string()).key(MOBILE_KEY), "4")).await;
    let browser = format!("/events/bulk/{ENV_ID}");
    accepts(&program, &with_schema(Call::post(&browser, json!([4]).to_string()), "4")).await;
    // Summarised by the gateway.
    let php = json!([{"kind": "feature", "key": "flag", "version": 3, "variation": 0, "value": true, "default": false,
        "creationDate": 1000, "context": {"kind": "user", "key": "u"}}]);
    accepts(&program, &bulk(&php).header("X-LaunchDarkly-Unsummarized", "true")).await;
    program.signal(Signal::KILL);
    program.ends().await;
    assert!(place.cloud.posts("/bulk").is_empty(), "nothing was sent before");

    place.configures(|setup| setup);
    let program = place.program().await;
    let arrived = place.arrived("/bulk", 4).await;
    let summary = arrived.iter().find(|it| it["kind"] == "summary").expect("a summary");
    assert_eq!(summary["features"]["flag"]["counters"][0]["count"], 1, "{summary}");
    assert!(arrived.contains(&json!({"kind": "custom", "key": "a"})) && arrived.contains(&json!(2)), "{arrived:?}");
    assert_eq!(place.arrived("/mobile", 1).await, [json!(3)]);
    assert_eq!(place.arrived(&browser, 1).await, [json!(4)]);
    settled(&program).await;
    // What is delivered is removed from the disk a moment later.
    tokio::time::sleep(Duration::from_millis(500)).await;
    program.signal(Signal::KILL);
    program.ends().await;
    let program = place.program().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ledger(&program).await["received"], 0, "what was delivered is not sent again");
}

#[tokio::test]
async fn kills_during_an_outage_lose_nothing() {
    let place = Place::new().await;
    place.cloud.refuses_posts(true);
    for round in 0..4 {
        let program = place.program().await;
        for number in 0..10 {
            accepts(&program, &bulk(&json!([round * 10 + number]))).await;
        }
        if round == 2 {
            // An ordinary end leaves on disk what upstream does not take.
            program.signal(Signal::TERM);
        } else {
            program.signal(Signal::KILL);
        }
        program.ends().await;
    }
    place.cloud.refuses_posts(false);
    let program = place.program().await;
    assert_eq!(place.arrived("/bulk", 40).await, numbers(0..40));
    program.signal(Signal::TERM);
    program.ends().await;
}

#[tokio::test]
async fn events_on_disk_can_be_encrypted() {
    let place = Place::new().await;
    let with_key = |key: &'static str| move |setup: Setup| setup.set("launchdarkly.events_spool_key", key);
    place.configures(with_key("a generated secret"));
    place.cloud.refuses_posts(true);
    let program = place.program().await;
    accepts(&program, &bulk(&json!([{"kind": "custom", "key": "canary-event"}]))).await;
    program.signal(Signal::KILL);
    program.ends().await;
    let file = std::fs::read(place.data().join("events.redb")).expect("a file");
    for secret in ["canary-event", "a generated secret", SDK_KEY] {
        assert!(!file.windows(secret.len()).any(|it| it == secret.as_bytes()), "{secret}");
    }
    place.cloud.refuses_posts(false);
    place.configures(with_key("another secret"));
    let program = place.program().await;
    until("the loss in the log", || program.has_logged("events on disk cannot be read and are left there")).await;
    accepts(&program, &bulk(&json!([1]))).await;
    assert_eq!(place.arrived("/bulk", 1).await, [json!(1)], "later events are not affected");
    assert_eq!(ledger(&program).await["dropped"], json!([["spool-unreadable", 1]]));
    program.signal(Signal::TERM);
    program.ends().await;
    place.configures(with_key("a generated secret"));
    let program = place.program().await;
    let all = place.arrived("/bulk", 2).await;
    assert_eq!(all, [json!(1), json!({"kind": "custom", "key": "canary-event"})], "the first key reads it");
    program.signal(Signal::TERM);
    program.ends().await;
}

#[tokio::test]
async fn what_does_not_fit_is_kept_in_memory() {
    let place = Place::new().await;
    place.configures(|setup| setup.set("launchdarkly.events_spool_size", "4KiB"));
    place.cloud.refuses_posts(true);
    let program = place.program().await;
    let large = json!([{"kind": "custom", "x": "x".repeat(1000)}]);
    for _ in 0..4 {
        accepts(&program, &bulk(&large)).await;
    }
    until("the limit in the log", || program.has_logged("the space for waiting events is used up")).await;
    let report = ledger(&program).await;
    assert_eq!((&report["pending"], &report["dropped"]), (&json!(4), &json!([])), "{report}");
    place.cloud.refuses_posts(false);
    place.arrived("/bulk", 4).await;
}
