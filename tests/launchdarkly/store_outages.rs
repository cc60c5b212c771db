//! A database that answers with errors: what it costs, and how it is reported to operators.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until, within};

use crate::flags::{data, flag, put};
use crate::program::Program;
use crate::running::{SDK_KEY, Setup};

const FLAGS: usize = 2000;

fn many() -> Value {
    data((0..FLAGS).map(|number| flag(&format!("flag-{number:04}"), 1)), [])
}

/// A program with many flags, and a database.
struct Place {
    cloud: FakeLaunchDarkly,
    program: Program,
    _dir: TempDir,
}

impl Place {
    async fn new(redis: &RedisServer) -> Self {
        let (cloud, dir) = (FakeLaunchDarkly::start().await, TempDir::new().expect("a temporary folder"));
        cloud.puts(SDK_KEY, &many());
        let setup = Setup::new().set("log.format", "json").set("launchdarkly.redis.url", redis.url());
        setup.set("launchdarkly.redis.check_interval", "200ms").write(&cloud.url(), dir.path());
        let program = Program::start(dir.path()).await;
        within("`/ready`", program.wait_until_ready()).await;
        Self { cloud, program, _dir: dir }
    }

    /// Waits until everything is in the database, and this is logged.
    async fn wait_until_filled(&self) {
        until("all data in Redis", || self.program.has_logged("persistent store is up to date")).await;
    }

    /// Returns the state of the database that operators see.
    async fn store(&self) -> Value {
        self.program.operator_gets("/api/status").await.json()["environments"][0]["store"].clone()
    }

    async fn store_becomes(&self, state: &str) -> Value {
        let mut store = Value::Null;
        let looks = async {
            while store["state"] != state {
                store = self.store().await;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        within(&format!("the database to be {state}"), looks).await;
        store
    }

    /// Returns the lines of the log about the database.
    fn lines(&self) -> Vec<String> {
        let is_about = |line: &String| line.contains("persistent store") || line.contains("database");
        self.program.log().into_iter().filter(is_about).collect()
    }

    /// Checks every such outage: one short line with the remedy, few attempts, and data is served throughout.
    async fn suffers(&self, redis: &RedisServer, state: &str, remedy: &str) {
        let (seconds, attempts) = self.assert_served_during(Some(redis), state, remedy, 1).await;
        assert!(attempts <= 3 + seconds, "{state}: {attempts} refused writes in {seconds} s");
    }

    /// Returns the duration in seconds, and the number of rejected writes.
    async fn assert_served_during(
        &self,
        redis: Option<&RedisServer>,
        state: &str,
        remedy: &str,
        most_lines: usize,
    ) -> (u64, u64) {
        let (lines, refused) = (self.lines().len(), redis.map_or(0, |it| it.calls("hset").1));
        let mut sdk = self.program.opens("/all", SDK_KEY).await;
        sdk.receives_event("put").await;
        let start = tokio::time::Instant::now();
        self.cloud.patches(SDK_KEY, &flag("flag-0001", 2));
        assert_eq!(sdk.receives_event("patch").await["data"]["version"], 2, "{state}");
        let store = self.store_becomes(state).await;
        assert!(store["advice"].as_str().is_some_and(|it| it.contains(remedy)), "{store}");
        assert!(store["last_answer"].as_str().is_some_and(|it| it.len() < 300), "{store}");
        let metrics = self.program.operator_gets("/metrics").await.text().to_owned();
        let series = format!(
            r#"yardarm_store_state{{database="redis",environment="main",state="{state}",vendor="launchdarkly"}} 1"#
        );
        assert!(metrics.lines().any(|it| it == series), "{state}: {metrics}");
        let states = metrics.lines().filter(|it| it.starts_with("yardarm_store_state{"));
        let (current, others): (Vec<_>, Vec<_>) = states.partition(|it| it.ends_with(" 1"));
        assert!(current.len() == 1 && others.len() >= 9, "one series per state, one of them current: {metrics}");
        assert!(count(&metrics, "yardarm_store_failures_total") > Some(0), "{metrics}");
        // Long enough for several attempts, while changes continue.
        for version in 3..6 {
            self.cloud.patches(SDK_KEY, &flag("flag-0001", version));
            assert_eq!(sdk.receives_event("patch").await["data"]["version"], version, "{state}");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        let new = self.lines().split_off(lines);
        assert!(new.len() <= most_lines && new.iter().all(|it| it.len() < 1000), "{state}: {new:#?}");
        assert!(new.iter().any(|it| it.contains(remedy)), "{state}: {new:#?}");
        (start.elapsed().as_secs() + 1, redis.map_or(0, |it| it.calls("hset").1) - refused)
    }

    /// Checks the end of an outage: one line, and all data is in the database.
    async fn recovers(&self, redis: &RedisServer) {
        self.store_becomes("available").await;
        let metrics = self.program.operator_gets("/metrics").await.text().to_owned();
        assert!(count(&metrics, "yardarm_store_writes_total") > Some(0), "{metrics}");
        let newest = || {
            let text = redis.field("launchdarkly:features", "flag-0001").unwrap_or_default();
            serde_json::from_str::<Value>(&text).is_ok_and(|it| it["version"] == 5)
        };
        until("the newest version in Redis", newest).await;
        assert_eq!(redis.names(&["HKEYS", "launchdarkly:features"]).len(), FLAGS);
        // The log is written by a separate thread.
        until("the line about the end", || self.program.has_logged("persistent store is available again")).await;
        let log = self.program.log();
        let ends = log.iter().filter(|it| it.contains("persistent store is available again")).count();
        assert_eq!(ends, 1, "{log:#?}");
    }
}

/// Returns the value of a counter of the environment.
fn count(metrics: &str, counter: &str) -> Option<u64> {
    let series = format!(r#"{counter}{{environment="main",vendor="launchdarkly"}} "#);
    metrics.lines().find_map(|it| it.strip_prefix(&series)?.parse().ok())
}

#[tokio::test]
async fn a_database_that_becomes_a_replica_is_logged_once_and_retried_rarely() {
    let Some(redis) = RedisServer::start() else { return };
    let place = Place::new(&redis).await;
    place.wait_until_filled().await;
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    place.suffers(&redis, "read-only", "point `launchdarkly.redis.url` at the primary").await;
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    place.recovers(&redis).await;
}

#[tokio::test]
async fn a_full_database_is_logged_once_and_retried_rarely() {
    let Some(redis) = RedisServer::start() else { return };
    let place = Place::new(&redis).await;
    place.wait_until_filled().await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1mb"]);
    place.suffers(&redis, "full", "raise its `maxmemory`").await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    place.recovers(&redis).await;
}

#[tokio::test]
async fn a_database_that_rejects_the_password_is_logged_once_and_retried_rarely() {
    let Some(redis) = RedisServer::start() else { return };
    let place = Place::new(&redis).await;
    place.wait_until_filled().await;
    redis.ask(&["ACL", "SETUSER", "default", "resetpass", ">other", "-@all"]);
    // Commands of the test are not permitted either, so the database cannot be inspected. The server also closes
    // connections, which is a separate cause.
    place.assert_served_during(None, "denied", "`launchdarkly.redis.password`", 3).await;
}

#[tokio::test]
async fn a_cluster_is_logged_once_and_retried_rarely() {
    let Some(redis) = RedisServer::start_cluster() else { return };
    for is_assigned in [false, true] {
        if is_assigned {
            redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
            let is_up = || redis.ask(&["CLUSTER", "INFO"]).text().is_some_and(|it| it.contains("cluster_state:ok"));
            until("the cluster", is_up).await;
        }
        let place = Place::new(&redis).await;
        let store = place.store_becomes("cluster").await;
        let remedy = "cluster mode, which is not supported";
        assert!(store["advice"].as_str().is_some_and(|it| it.contains(remedy)), "{store}");
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let lines = place.lines();
        assert!(lines.len() == 1 && lines[0].contains(remedy) && lines[0].len() < 1000, "{is_assigned}: {lines:#?}");
        let polled = place.program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
        assert_eq!(polled.status, 200);
    }
}

#[tokio::test]
async fn keys_of_another_type_are_replaced() {
    let Some(redis) = RedisServer::start() else { return };
    redis.ask(&["SET", "launchdarkly:features", "of another program"]);
    redis.ask(&["SET", "launchdarkly:$inited", ""]);
    let place = Place::new(&redis).await;
    until("all data in Redis", || redis.ask(&["TYPE", "launchdarkly:features"]).text().as_deref() == Some("hash"))
        .await;
    // The same with a gateway that writes single changes only.
    redis.ask(&["DEL", "launchdarkly:features"]);
    redis.ask(&["SET", "launchdarkly:features", "of another program"]);
    for version in 2..6 {
        place.cloud.patches(SDK_KEY, &flag("flag-0001", version));
    }
    until("a hash again", || redis.ask(&["TYPE", "launchdarkly:features"]).text().as_deref() == Some("hash")).await;
    place.recovers(&redis).await;
    let lines = place.lines();
    assert!(lines.iter().all(|it| it.len() < 1000), "{lines:#?}");
}

#[tokio::test]
async fn newer_data_of_another_gateway_is_served_while_upstream_is_lost() {
    let Some(redis) = RedisServer::start() else { return };
    let setup = || {
        let setup = Setup::with(data([flag("plain", 3), flag("gone", 1)], [crate::flags::segment("crew", 2)]));
        setup.set("launchdarkly.redis.url", redis.url()).set("launchdarkly.redis.poll_interval", "50ms")
    };
    let (first, second) = (setup().start().await, setup().start().await);
    for gateway in [&first, &second] {
        // The database's data may be served first.
        let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
        gateway.status_where("upstream's data", is_valid).await;
    }
    let mut sdk = second.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    second.upstream.goes_down();
    let is_lost = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "INTERRUPTED";
    second.status_where("an outage", is_lost).await;

    first.upstream.patches(SDK_KEY, &flag("plain", 4));
    let received = sdk.receives_event("patch").await;
    assert_eq!(received, json!({"path": "/flags/plain", "data": flag("plain", 4)}));
    first.upstream.deletes(SDK_KEY, "/flags/gone", 5);
    assert_eq!(sdk.receives_event("delete").await, json!({"path": "/flags/gone", "version": 5}));
    first.upstream.patches_segment(SDK_KEY, &crate::flags::segment("crew", 3));
    assert_eq!(sdk.receives_event("patch").await["path"], "/segments/crew");
    first.upstream.patches(SDK_KEY, &flag("new", 1));
    assert_eq!(sdk.receives_event("patch").await["path"], "/flags/new");
    assert_eq!(second.answers(&Call::get("/sdk/flags/gone").key(SDK_KEY)).await.status, 404);

    // It is not written back, and an older version in the database removes nothing.
    let writes = redis.calls("hset").0;
    let older = flag("plain", 2).to_string();
    redis.ask(&["HSET", "launchdarkly:features", "plain", &older]);
    redis.ask(&["HSET", "launchdarkly:features", "last", &flag("last", 1).to_string()]);
    assert_eq!(sdk.receives_event("patch").await["path"], "/flags/last");
    let polled = second.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
    assert_eq!(polled.json()["version"], 4);
    let reads = redis.calls("hgetall").0;
    until("more polls", || redis.calls("hgetall").0 > reads + 6).await;
    assert_eq!(redis.calls("hset").0, writes + 2, "only the two of this test");

    // Upstream's data is written last, and no further writes follow.
    let newest = data([flag("plain", 6)], []);
    second.upstream.puts(SDK_KEY, &newest);
    second.upstream.comes_back();
    sdk.receives("put", put(newest)).await;
    second.status_where("upstream", |it| it["environments"]["main"]["connectionStatus"]["state"] == "VALID").await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let reads = redis.calls("hgetall").0;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(redis.calls("hgetall").0, reads, "no poll while upstream speaks");
}

#[tokio::test]
async fn a_database_that_is_filled_later_ends_the_wait_for_data() {
    let Some(redis) = RedisServer::start() else { return };
    let setup =
        |setup: Setup| setup.set("launchdarkly.redis.url", redis.url()).set("launchdarkly.redis.poll_interval", "50ms");
    // Its upstream is connected and silent.
    let waiting = setup(Setup::new().set("launchdarkly.init_timeout", "20ms")).without_waiting().start().await;
    let mut sdk = waiting.opens_when_ready("/all", SDK_KEY).await;
    let filling = setup(Setup::with(data([flag("plain", 3)], []))).start().await;
    sdk.receives("put", put(data([flag("plain", 3)], []))).await;
    drop(filling);
}
