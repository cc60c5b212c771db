//! L047, L229, U093 to U101: the content of the database, the behaviour without it, and its state in `/status`.
//!
//! Flag data is always served from memory, so there is no expired cache as in U092.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until};

use crate::flags::{data, flag, put, segment, some_data};
use crate::program::{Program, Signal};
use crate::running::{CTX, MOBILE_KEY, Running, SDK_KEY, Setup};

/// Returns the names of all keys in a database.
fn keys(redis: &RedisServer) -> Vec<String> {
    redis.names(&["KEYS", "*"])
}

/// Returns a collection as JSON by key.
fn stored(redis: &RedisServer, collection: &str) -> Value {
    let keys = redis.names(&["HKEYS", collection]);
    let item =
        |key: &String| serde_json::from_str::<Value>(&redis.field(collection, key).expect("a field")).expect("JSON");
    keys.iter().map(|key| (key.clone(), item(key))).collect()
}

pub(super) fn using(redis: &RedisServer, setup: Setup) -> Setup {
    setup.set("launchdarkly.redis.url", redis.url())
}

fn store_state(status: &Value) -> &Value {
    &status["environments"]["main"]["dataStoreStatus"]["state"]
}

/// Waits until a flag has this version in the database.
pub(super) async fn assert_version(row: &str, redis: &RedisServer, key: &str, version: i64) {
    let is_there = || {
        let text = redis.field("launchdarkly:features", key).unwrap_or_default();
        serde_json::from_str::<Value>(&text).is_ok_and(|it| it["version"] == version)
    };
    until(&format!("{row}: version {version} of {key} in Redis"), is_there).await;
}

#[tokio::test]
async fn the_database_holds_exactly_this() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = using(&redis, Setup::with(some_data())).start().await;
    let upstream = gateway.upstream.clone();
    until("U097: the marker", || redis.get("launchdarkly:$inited").as_deref() == Some("")).await;
    assert_eq!(keys(&redis), ["launchdarkly:$inited", "launchdarkly:features", "launchdarkly:segments"], "U097");
    let sent = some_data();
    assert_eq!(stored(&redis, "launchdarkly:features"), sent["flags"], "U097");
    assert_eq!(stored(&redis, "launchdarkly:segments"), sent["segments"], "U097");

    upstream.patches(SDK_KEY, &flag("plain", 4));
    assert_version("U097: a patch", &redis, "plain", 4).await;
    // An older version changes nothing; the change after it shows that it was received.
    upstream.patches(SDK_KEY, &flag("plain", 2));
    upstream.patches(SDK_KEY, &flag("next", 1));
    assert_version("U100: an old patch", &redis, "next", 1).await;
    assert_version("U100: an old patch", &redis, "plain", 4).await;

    upstream.deletes(SDK_KEY, "/flags/plain", 9);
    assert_version("U098", &redis, "plain", 9).await;
    let tombstone = json!({
        "key": "$deleted", "on": false, "prerequisites": [], "targets": [], "contextTargets": [], "rules": [],
        "fallthrough": {}, "offVariation": null, "variations": [], "clientSide": false, "salt": "",
        "trackEvents": false, "trackEventsFallthrough": false, "debugEventsUntilDate": null, "version": 9,
        "deleted": true,
    });
    assert_eq!(stored(&redis, "launchdarkly:features")["plain"], tombstone, "U098");
    upstream.deletes(SDK_KEY, "/segments/crew", 7);
    let is_gone = || stored(&redis, "launchdarkly:segments")["crew"]["deleted"] == true;
    until("U098: a segment's tombstone", is_gone).await;
    let tombstone = json!({
        "key": "$deleted", "included": [], "excluded": [], "includedContexts": [], "excludedContexts": [], "salt": "",
        "rules": [], "version": 7, "generation": null, "deleted": true,
    });
    assert_eq!(stored(&redis, "launchdarkly:segments")["crew"], tombstone, "U098");

    upstream.puts(SDK_KEY, &data([flag("only", 1)], []));
    until("U099", || redis.names(&["HKEYS", "launchdarkly:features"]) == ["only"]).await;
    assert!(redis.names(&["HKEYS", "launchdarkly:segments"]).is_empty(), "U099");
}

#[tokio::test]
async fn each_environment_and_each_filter_has_its_prefix() {
    let Some(redis) = RedisServer::start() else { return };
    let environments = [
        json!({"name": "one", "sdk_key": "sdk-1", "prefix": "p1", "filters": ["f"]}),
        json!({"name": "two", "sdk_key": "sdk-2", "prefix": "p2"}),
    ];
    let setup = Setup::new().environments(environments);
    let setup = setup.data("sdk-1", data([flag("a", 1)], [])).data("sdk-1?filter=f", data([flag("b", 1)], []));
    let gateway = using(&redis, setup.data("sdk-2", data([flag("c", 1)], []))).start().await;
    for (prefix, key) in [("p1", "a"), ("p1/f", "b"), ("p2", "c")] {
        let collection = format!("{prefix}:features");
        until(&format!("the prefix {prefix}"), || redis.names(&["HKEYS", &collection]) == [key]).await;
    }
    let status = gateway.status().await;
    for (name, prefix) in [("one", "p1"), ("one/f", "p1/f"), ("two", "p2")] {
        assert_eq!(status["environments"][name]["dataStoreStatus"]["dbPrefix"], prefix, "L229");
    }
}

#[tokio::test]
async fn an_outage_affects_no_client_and_ends_with_everything_written() {
    let Some(mut redis) = RedisServer::start() else { return };
    let gateway = using(&redis, Setup::with(some_data())).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    assert_version("before", &redis, "plain", 3).await;
    gateway.status_where("a working database", |it| store_state(it) == "VALID").await;

    redis.kill();
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    assert_eq!(sdk.receives_event("patch").await["data"]["version"], 4, "U094: served during the outage");
    let status = gateway.status_where("U092: an outage", |it| store_state(it) == "INTERRUPTED").await;
    assert_eq!(status["environments"]["main"]["status"], "connected", "U092: otherwise unchanged");
    assert_eq!(status["status"], "healthy", "U092");
    for call in [Call::get("/sdk/flags").key(SDK_KEY), Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY)]
    {
        assert_eq!(gateway.answers(&call).await.status, 200, "U092: nothing expires");
    }
    gateway.upstream.patches(SDK_KEY, &flag("other", 1));
    sdk.receives_event("patch").await;

    // Empty, as after the loss of a machine.
    redis.restart();
    let before = gateway.upstream.stream_requests().len();
    assert_version("U094", &redis, "plain", 4).await;
    assert_version("U094", &redis, "other", 1).await;
    assert_eq!(keys(&redis), ["launchdarkly:$inited", "launchdarkly:features", "launchdarkly:segments"], "U093");
    gateway.status_where("U093", |it| store_state(it) == "VALID").await;
    assert_eq!(gateway.upstream.stream_requests().len(), before, "U094: no restart of the stream");
}

#[tokio::test]
async fn a_database_that_is_down_at_the_start_delays_nothing() {
    let Some(mut redis) = RedisServer::start() else { return };
    redis.kill();
    let gateway = using(&redis, Setup::with(some_data())).start().await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.status_where("U095", |it| store_state(it) == "INTERRUPTED").await;
    redis.restart();
    assert_version("U095", &redis, "plain", 3).await;
    gateway.status_where("U095", |it| store_state(it) == "VALID").await;
}

#[tokio::test]
async fn an_emptied_database_is_filled_again() {
    let Some(redis) = RedisServer::start() else { return };
    let setup = using(&redis, Setup::with(some_data())).set("launchdarkly.redis.check_interval", "100ms");
    let gateway = setup.start().await;
    assert_version("before", &redis, "plain", 3).await;
    redis.ask(&["FLUSHALL"]);
    until("U096", || redis.get("launchdarkly:$inited").is_some()).await;
    assert_eq!(stored(&redis, "launchdarkly:features"), some_data()["flags"], "U096");
    assert_eq!(gateway.upstream.stream_requests().len(), 1, "U096: without upstream");
}

#[tokio::test]
async fn two_gateways_may_share_a_prefix() {
    let Some(redis) = RedisServer::start() else { return };
    let first = using(&redis, Setup::with(some_data())).start().await;
    // Each has its own upstream, so that the test decides which gateway receives what and when.
    let second = using(&redis, Setup::with(some_data())).start().await;
    let mut sdks = Vec::new();
    for gateway in [&first, &second] {
        // The database's data may be served first, and then the same from upstream.
        let is_valid = |it: &Value| it["environments"]["main"]["connectionStatus"]["state"] == "VALID";
        gateway.status_where("upstream's data", is_valid).await;
        let mut sdk = gateway.opens("/all", SDK_KEY).await;
        sdk.receives("put", put(some_data())).await;
        sdks.push(sdk);
    }
    // A gateway's first data replaces everything in the database, so both must have written theirs. Writes are in order.
    second.upstream.patches(SDK_KEY, &flag("later", 2));
    assert_version("U100", &redis, "later", 2).await;
    assert_version("U100", &redis, "plain", 3).await;
    let newest = crate::flags::flag_with("plain", 5, json!({"salt": "first"}));
    first.upstream.patches(SDK_KEY, &newest);
    assert_version("U100", &redis, "plain", 5).await;
    // An older version than the other gateway's, and then the same one: the stored data does not change.
    second.upstream.patches(SDK_KEY, &flag("plain", 4));
    second.upstream.patches(SDK_KEY, &flag("plain", 5));
    second.upstream.patches(SDK_KEY, &flag("last", 1));
    assert_version("U100", &redis, "last", 1).await;
    assert_eq!(stored(&redis, "launchdarkly:features")["plain"], newest, "U100: stored once");
    assert_eq!(sdks[0].receives_event("patch").await["data"]["version"], 5, "U100");
    for version in [2, 4, 5, 1] {
        assert_eq!(sdks[1].receives_event("patch").await["data"]["version"], version, "U100: both deliver");
    }
}

/// Requests everything that server-side SDKs request.
async fn serves(row: &str, gateway: &Running, expected: &Value) {
    let mut sdk = gateway.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives("put", put(expected.clone())).await;
    let flags = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!((flags.status, flags.json()), (200, expected["flags"].clone()), "{row}");
    let evaluated = gateway.answers(&Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(SDK_KEY)).await;
    assert_eq!((evaluated.status, &evaluated.json()["plain"]["value"]), (200, &json!(true)), "{row}");
}

#[tokio::test]
async fn data_from_the_database_is_served_until_upstream_answers() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = FakeLaunchDarkly::start().await;
    let filled = using(&redis, Setup::with(some_data())).start().await;
    filled.upstream.patches(SDK_KEY, &flag("gone", 1));
    filled.upstream.deletes(SDK_KEY, "/flags/gone", 2);
    assert_version("before", &redis, "gone", 2).await;
    filled.stop().await;

    // A silent upstream, and an upstream that rejects the key (R7).
    for (row, is_known) in [("L047", true), ("L047, R7", false)] {
        let setup = using(&redis, Setup::new()).set("launchdarkly.init_timeout", "1h").without_waiting();
        let setup = if is_known { setup } else { setup.set("launchdarkly.stream_uri", cloud.url()) };
        // Upstream answers faster than the database: its rejection must not be reported while the database may contain
        // data.
        redis.ask(&["CLIENT", "PAUSE", "500", "ALL"]);
        let gateway = setup.start().await;
        serves(row, &gateway, &some_data()).await;
        let status = gateway.status().await;
        let main = &status["environments"]["main"];
        assert_eq!((&status["status"], &main["status"]), (&json!("degraded"), &json!("disconnected")), "{row}");
        assert_eq!(main["dataStoreStatus"]["state"], "VALID", "{row}");
        let report = gateway.operator_gets("/api/environments").await.json();
        assert_eq!(report["environments"][0]["is_stale"], true, "{row}");
        if is_known {
            // Stale data is replaced as soon as upstream sends newer data, in memory and in the database.
            let mut sdk = gateway.opens("/all", SDK_KEY).await;
            sdk.receives_event("put").await;
            gateway.upstream.puts(SDK_KEY, &some_data());
            sdk.receives("put", put(some_data())).await;
            until("L047", || redis.names(&["HKEYS", "launchdarkly:features"]) == ["plain"]).await;
            gateway.status_where("L047", |it| it["status"] == "healthy").await;
        }
    }
}

#[tokio::test]
async fn foreign_content_of_a_database_is_not_served() {
    let Some(redis) = RedisServer::start() else { return };
    redis.ask(&["HSET", "launchdarkly:features", "plain", "nonsense"]);
    redis.ask(&["SET", "launchdarkly:$inited", ""]);
    let setup = using(&redis, Setup::new()).set("launchdarkly.init_timeout", "50ms");
    let gateway = setup.start().await;
    let answer = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    gateway.upstream.puts(SDK_KEY, &data([flag("plain", 1)], [segment("crew", 1)]));
    assert_version("upstream replaces it", &redis, "plain", 1).await;
}

const PASSWORD: &str = "canary0ca9a4e1";

#[tokio::test]
async fn a_password_is_never_shown() {
    // U101, L229: with the right password, with a wrong one, and with a separate one.
    let Some(redis) = RedisServer::start_protected(PASSWORD) else { return };
    let bare = redis.url().replace(&format!(":{PASSWORD}@"), "");
    let shown = redis.url().replace(PASSWORD, "xxxxx");
    for (url, apart, server, state) in [
        (redis.url(), None, &shown, "VALID"),
        (redis.url().replace(PASSWORD, "canary0ca9a4e1-wrong"), None, &shown, "INTERRUPTED"),
        (bare.clone(), Some(PASSWORD), &bare, "VALID"),
    ] {
        let cloud = FakeLaunchDarkly::start().await;
        cloud.puts(SDK_KEY, &some_data());
        let dir = TempDir::new().expect("a temporary folder");
        let setup = Setup::new().set("log.format", "json").set("log.level", "trace").set("launchdarkly.redis.url", url);
        let setup = if let Some(password) = apart { setup.set("launchdarkly.redis.password", password) } else { setup };
        setup.environment(json!({"prefix": "p"})).write(&cloud.url(), dir.path());
        let program = Program::start(dir.path()).await;
        yardarm_testkit::within("`/ready`", program.wait_until_ready()).await;
        let mut status = Value::Null;
        let looks = async {
            while *store_state(&status) != state {
                status = program.answers(&Call::get("/status")).await.json();
            }
        };
        yardarm_testkit::within(&format!("U101: {state}"), looks).await;
        let store = &status["environments"]["main"]["dataStoreStatus"];
        let names: Vec<_> = store.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["database", "dbPrefix", "dbServer", "state", "stateSince"], "L229");
        assert_eq!((&store["database"], &store["dbPrefix"]), (&json!("redis"), &json!("p")), "L229");
        assert_eq!(store["dbServer"], **server, "L229, U101");
        assert!(store["stateSince"].as_u64().is_some_and(|it| it > 0), "L229");
        for path in ["/api/status", "/api/environments", "/metrics", "/"] {
            assert!(!program.operator_gets(path).await.text().contains(PASSWORD), "U101: {path}");
        }
        let effective = crate::program::run(dir.path(), &["check", "--print-effective"]);
        assert!(!String::from_utf8_lossy(&effective.stdout).contains(PASSWORD), "U101");
        program.signal(Signal::TERM);
        let (exit, log) = program.ends().await;
        assert_eq!(exit.code(), Some(0));
        for line in &log {
            assert!(!line.contains(PASSWORD), "U101: {line}");
        }
    }
}

#[test]
fn prefixes_and_addresses_are_checked_before_anything_starts() {
    let with_redis = |text: &str| format!("{text}\n[launchdarkly.redis]\nurl = \"redis://localhost\"\n");
    let environment = |name: &str, more: &str| {
        format!("[[launchdarkly.environments]]\nname = \"{name}\"\nsdk_key = \"sdk-{name}\"\n{more}\n")
    };
    let one = environment("a", "");
    for (text, part) in [
        (
            with_redis(&format!("{one}{}", environment("b", "prefix = \"x\""))),
            Some("`launchdarkly.environments[0].prefix`: is required"),
        ),
        (
            with_redis(&format!("{}{}", environment("a", "prefix = \"x\""), environment("b", "prefix = \"x\""))),
            Some("`launchdarkly.environments[1].prefix` (yardarm.toml, line 8, column 1): environment `a` uses `x`"),
        ),
        (
            with_redis(&format!(
                "{}{}",
                environment("a", "prefix = \"x\"\nfilters = [\"y\"]"),
                environment("b", "prefix = \"x/y\"")
            )),
            Some("`launchdarkly.environments[1].prefix` (yardarm.toml, line 9, column 1): environment `a` uses `x/y`"),
        ),
        (
            format!("{one}[launchdarkly.redis]\nurl = \"http://canary@host\"\n"),
            Some("`launchdarkly.redis.url` (yardarm.toml, line 6, column 1): must be an address such as `redis://"),
        ),
        (format!("{one}[launchdarkly.redis]\ntls = true\n"), Some("`launchdarkly.redis.url`: is required")),
        (with_redis(&one), None),
        (with_redis(&environment("a", "prefix = \"x\"\nfilters = [\"y\"]")), None),
        (format!("{one}{}", environment("b", "")), None),
    ] {
        let dir = TempDir::new().expect("a temporary folder");
        std::fs::write(dir.path().join("yardarm.toml"), &text).expect("a folder that can be written");
        let mut check = crate::program::command(dir.path());
        check.env("YARDARM_SERVER_LISTEN", "127.0.0.1:0").env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0");
        let output = check.arg("check").output().expect("a program that starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(if part.is_some() { 78 } else { 0 }), "U143: {text}{error}");
        assert!(error.contains(part.unwrap_or_default()), "U143: {part:?}: {error}");
        assert!(!error.contains("canary"), "{error}");
    }
}
