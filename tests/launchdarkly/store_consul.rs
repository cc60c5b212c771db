//! Consul as the database (U027, U106).

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeConsul, FakeLaunchDarkly, until, within};

use super::big_segments::gated;
use super::databases::{Database, a_gateway_lives_with, launch};
use crate::flags::{data, flag, flag_with, segment};
use crate::running::{CTX, SDK_KEY, Setup};

impl Database for FakeConsul {
    fn configure(&self, setup: Setup) -> Setup {
        setup.set("launchdarkly.consul.host", self.address()).set("launchdarkly.consul.token", "canary-of-consul")
    }

    fn stored(&self, prefix: &str, collection: &str) -> Value {
        let folder = format!("{prefix}/{collection}/");
        let item = |key: &String| {
            let name = key.strip_prefix(&folder)?.to_owned();
            let text = self.get(key).unwrap_or_default();
            Some((name, serde_json::from_str(&text).unwrap_or(Value::Null)))
        };
        self.keys().iter().filter_map(item).collect()
    }

    fn is_complete(&self, prefix: &str) -> bool {
        self.get(&format!("{prefix}/$inited")).is_some_and(|it| it.is_empty())
    }

    fn wipe(&self) {
        FakeConsul::wipe(self);
    }

    fn goes_down(&mut self) {
        FakeConsul::goes_down(self);
    }

    fn comes_back(&mut self) {
        FakeConsul::comes_back(self);
    }

    fn place(&self) -> Value {
        json!({"database": "consul", "dbServer": self.address(), "dbPrefix": "p"})
    }
}

#[tokio::test]
async fn a_gateway_lives_with_consul() {
    let consul = FakeConsul::start();
    consul.requires_token("canary-of-consul");
    a_gateway_lives_with(consul).await;
}

#[tokio::test]
async fn prerequisites_are_written_before_what_depends_on_them_and_other_prefixes_stay() {
    let consul = FakeConsul::start();
    consul.set("ld2/features/other", "{}");
    let needs = |key: &str, on: &str| flag_with(key, 1, json!({"prerequisites": [{"key": on, "variation": 0}]}));
    let sent = data([needs("a", "m"), needs("m", "z"), flag("z", 1)], [segment("s", 1)]);
    let setup = Setup::with(sent).environment(json!({"prefix": "ld", "filters": ["f"]}));
    let gateway = consul.configure(setup.data(&format!("{SDK_KEY}?filter=f"), data([flag("b", 1)], []))).start().await;
    until("both markers", || consul.is_complete("ld") && consul.is_complete("ld/f")).await;
    let writes = consul.writes();
    let of = |prefix: &str| writes.iter().filter(|it| it.starts_with(prefix)).cloned().collect::<Vec<_>>();
    let own: Vec<_> = of("ld/").into_iter().filter(|it| !it.starts_with("ld/f/")).collect();
    let expected = ["ld/segments/s", "ld/features/z", "ld/features/m", "ld/features/a", "ld/$inited"];
    assert_eq!(own, expected, "U027");
    assert_eq!(of("ld/f/"), ["ld/f/features/b", "ld/f/$inited"], "a filter has its own prefix");
    gateway.upstream.puts(SDK_KEY, &data([flag("z", 2)], []));
    until("the second set", || consul.stored("ld", "features") == json!({"z": flag("z", 2)})).await;
    assert_eq!(consul.get("ld2/features/other").as_deref(), Some("{}"), "U106");
    assert_eq!(consul.stored("ld/f", "features"), json!({"b": flag("b", 1)}), "U106");
}

#[tokio::test]
async fn big_segments_are_not_configured() {
    let consul = FakeConsul::start();
    let gateway = consul.configure(Setup::with(gated())).start().await;
    until("the marker", || consul.is_complete("launchdarkly")).await;
    let call = Call::get(format!("/sdk/evalx/contexts/{CTX}?withReasons=true")).key(SDK_KEY);
    let result = gateway.answers(&call).await.json()["gated"].clone();
    assert_eq!(result["reason"]["bigSegmentsStatus"], "NOT_CONFIGURED");
    assert!(gateway.status().await["environments"]["main"].get("bigSegmentStatus").is_none());
    assert_eq!(gateway.upstream.revision_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_refused_token_is_reported_with_advice() {
    let consul = FakeConsul::start();
    consul.requires_token("another");
    let gateway = consul.configure(Setup::with(data([flag("a", 1)], []))).start().await;
    let mut store = Value::Null;
    let looks = async {
        while store["state"] != "denied" {
            store = gateway.operator_gets("/api/status").await.json()["environments"][0]["store"].clone();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("a refused token", looks).await;
    assert!(store["advice"].as_str().is_some_and(|it| it.contains("`launchdarkly.consul.token`")), "{store}");
    assert!(!store.to_string().contains("canary"), "{store}");
}

#[tokio::test]
async fn a_token_may_be_in_a_file() {
    let (consul, cloud) = (FakeConsul::start(), FakeLaunchDarkly::start().await);
    consul.requires_token("canary-in-a-file");
    cloud.puts(SDK_KEY, &data([flag("a", 1)], []));
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "canary-in-a-file\n").expect("a folder that can be written");
    let setup = Setup::new().set("launchdarkly.consul.host", consul.address());
    let setup = setup.set("launchdarkly.consul.token_file", file.to_str().expect("a path of text"));
    let (_program, _dir) = launch(setup, &[], &cloud).await;
    until("the marker", || consul.is_complete("launchdarkly")).await;
}
