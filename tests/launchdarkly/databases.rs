//! The same life of a gateway with every database: what it writes, what it does without the database, and what a restart
//! serves. Redis has further tests in `store.rs`.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until, within};

use crate::flags::{data, flag, put, some_data};
use crate::program::{Program, Signal};
use crate::running::{SDK_KEY, Setup};

/// A database that a gateway writes to.
pub(super) trait Database {
    /// Adds the settings of the database.
    fn configure(&self, setup: Setup) -> Setup;

    /// Environment variables of the gateway.
    fn variables(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Keys and values of a collection.
    fn stored(&self, prefix: &str, collection: &str) -> Value;

    /// Whether the marker exists.
    fn is_complete(&self, prefix: &str) -> bool;

    /// Removes all data.
    fn wipe(&self);

    /// Begins an outage.
    fn goes_down(&mut self);

    /// Ends an outage; data may be lost.
    fn comes_back(&mut self);

    /// `dataStoreStatus` without state and time.
    fn place(&self) -> Value;
}

/// Starts a gateway with a database; also returns its folder.
pub(super) async fn start(database: &impl Database, setup: Setup, cloud: &FakeLaunchDarkly) -> (Program, TempDir) {
    launch(database.configure(setup), &database.variables(), cloud).await
}

/// Starts a gateway with variables; also returns its folder.
pub(super) async fn launch(
    setup: Setup,
    variables: &[(&'static str, &'static str)],
    cloud: &FakeLaunchDarkly,
) -> (Program, TempDir) {
    let dir = TempDir::new().expect("a temporary folder");
    setup.set("log.format", "json").set("log.level", "debug").write(&cloud.url(), dir.path());
    let mut command = crate::program::command(dir.path());
    command.envs(variables.iter().copied());
    (Program::launch(command).await, dir)
}

/// Waits until a collection has this content.
pub(super) async fn holds(what: &str, database: &impl Database, collection: &str, expected: &Value) {
    until(what, || database.stored("p", collection) == *expected).await;
}

/// Waits until the database is in this state in `/status`; returns its entry.
pub(super) async fn reaches_state(what: &str, program: &Program, state: &str) -> Value {
    let mut entry = Value::Null;
    let looks = async {
        while entry["state"] != state {
            let status = program.answers(&Call::get("/status")).await.json();
            entry = status["environments"]["main"]["dataStoreStatus"].clone();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within(&format!("{what}: {state}"), looks).await;
    entry
}

/// L047, U095 to U100, L229: the life of a gateway with this database.
pub(super) async fn a_gateway_lives_with(mut database: impl Database) {
    let cloud = FakeLaunchDarkly::start().await;
    cloud.puts(SDK_KEY, &some_data());
    let setup = || Setup::new().environment(json!({"prefix": "p"}));
    let checked = |setup: Setup| {
        let section = database.place()["database"].as_str().expect("a name").to_owned();
        setup.set(&format!("launchdarkly.{section}.check_interval"), "200ms")
    };
    let (program, dir) = start(&database, checked(setup()), &cloud).await;
    within("`/ready`", program.wait_until_ready()).await;
    let mut sdk = program.opens_when_served("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;

    until("U097, U103: the marker", || database.is_complete("p")).await;
    let sent = some_data();
    assert_eq!(database.stored("p", "features"), sent["flags"], "U097, U103");
    assert_eq!(database.stored("p", "segments"), sent["segments"], "U097, U103");
    let mut entry = reaches_state("L229", &program, "VALID").await;
    let entry = entry.as_object_mut().expect("an object");
    assert!(entry.remove("stateSince").is_some() && entry.remove("state").is_some());
    assert_eq!(Value::from(entry.clone()), database.place(), "L229");

    // An older version changes nothing; the change after it shows that it was received.
    cloud.patches(SDK_KEY, &flag("plain", 4));
    cloud.patches(SDK_KEY, &flag("plain", 2));
    cloud.patches(SDK_KEY, &flag("next", 1));
    until("U100", || database.stored("p", "features")["next"]["version"] == 1).await;
    assert_eq!(database.stored("p", "features")["plain"], flag("plain", 4), "U100");
    cloud.deletes(SDK_KEY, "/flags/next", 9);
    until("U098", || database.stored("p", "features")["next"]["version"] == 9).await;
    let tombstone = database.stored("p", "features")["next"].clone();
    assert_eq!((&tombstone["deleted"], &tombstone["key"]), (&json!(true), &json!("$deleted")), "U098");
    let newest = data([flag("plain", 5)], []);
    cloud.puts(SDK_KEY, &newest);
    holds("U099", &database, "features", &newest["flags"]).await;
    holds("U099", &database, "segments", &json!({})).await;

    database.wipe();
    until("U096: the marker again", || database.is_complete("p")).await;
    holds("U096", &database, "features", &newest["flags"]).await;

    // U092, U094
    let mut sdk = program.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    database.goes_down();
    cloud.patches(SDK_KEY, &flag("plain", 6));
    assert_eq!(sdk.receives_event("patch").await["data"]["version"], 6, "U094: served during the outage");
    reaches_state("U092", &program, "INTERRUPTED").await;
    database.comes_back();
    let newest = data([flag("plain", 6)], []);
    reaches_state("U093", &program, "VALID").await;
    holds("U094", &database, "features", &newest["flags"]).await;
    program.signal(Signal::TERM);
    let (exit, log) = program.ends().await;
    assert_eq!(exit.code(), Some(0));
    assert!(log.iter().all(|it| !it.contains("canary")), "no credential is logged");
    drop(dir);

    // L047: upstream is silent.
    let silent = FakeLaunchDarkly::start().await;
    silent.add_environment(SDK_KEY);
    let (program, _dir) = start(&database, setup().set("launchdarkly.init_timeout", "1h"), &silent).await;
    let mut sdk = program.opens_when_served("/all", SDK_KEY).await;
    sdk.receives("put", put(newest)).await;
}

impl Database for RedisServer {
    fn configure(&self, setup: Setup) -> Setup {
        setup.set("launchdarkly.redis.url", self.url())
    }

    fn stored(&self, prefix: &str, collection: &str) -> Value {
        let hash = format!("{prefix}:{collection}");
        let item = |key: &String| self.field(&hash, key).and_then(|it| serde_json::from_str(&it).ok());
        self.names(&["HKEYS", &hash]).into_iter().map(|key| (key.clone(), item(&key).unwrap_or(Value::Null))).collect()
    }

    fn is_complete(&self, prefix: &str) -> bool {
        self.get(&format!("{prefix}:$inited")).is_some()
    }

    fn wipe(&self) {
        self.ask(&["FLUSHALL"]);
    }

    fn goes_down(&mut self) {
        self.kill();
    }

    fn comes_back(&mut self) {
        self.restart();
    }

    fn place(&self) -> Value {
        json!({"database": "redis", "dbServer": self.url(), "dbPrefix": "p"})
    }
}

#[tokio::test]
async fn a_gateway_lives_with_redis() {
    let Some(redis) = RedisServer::start() else { return };
    a_gateway_lives_with(redis).await;
}
