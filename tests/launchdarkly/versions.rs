//! Stored items with a version outside the vendor's range: each affects only itself, from whichever store it is read.

use std::path::Path;

use redb::{Database, ReadableTable, TableDefinition};
use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until};

use super::store::{assert_version, using};
use crate::flags::{data, flag, put, segment, some_data};
use crate::running::{CTX, Running, SDK_KEY, Setup};

/// Keys of items with such a version, a placeholder version with as many digits, and its replacement.
const ODD: [(&str, i64, &str); 3] = [("huge", 12345, "1e308"), ("broken", 123, "1.5"), ("negative", 12, "-1")];

/// Checks that the rest of `some_data` is served.
async fn serves_the_rest(row: &str, gateway: &Running) {
    let mut sdk = gateway.opens_when_ready("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    let flags = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!((flags.status, flags.json()), (200, some_data()["flags"].clone()), "{row}");
    let evaluated = gateway.answers(&Call::get(format!("/sdk/evalx/contexts/{CTX}")).key(SDK_KEY)).await.json();
    assert_eq!(evaluated, json!({"plain": {"value": true, "variation": 0, "version": 3}}), "{row}");
}

/// Replaces texts in stored items with others of the same length.
fn forge(file: &Path, replacements: &[(String, String)]) {
    let items: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("items.1");
    let database = Database::open(file).expect("a store");
    let transaction = database.begin_write().expect("a transaction");
    {
        let mut table = transaction.open_table(items).expect("items");
        for (before, after) in replacements {
            assert_eq!(before.len(), after.len());
            let found = table.iter().expect("items").find_map(|record| {
                let (key, value) = record.expect("an item");
                let (key, mut value) = (key.value().to_vec(), value.value().to_vec());
                let place = value.windows(before.len()).position(|it| it == before.as_bytes())?;
                value[place..place + after.len()].copy_from_slice(after.as_bytes());
                Some((key, value))
            });
            let (key, value) = found.unwrap_or_else(|| panic!("{before} is in the store"));
            table.insert(&key[..], &value[..]).expect("a record");
        }
    }
    transaction.commit().expect("a commit");
}

#[tokio::test]
async fn invalid_versions_on_disk_affect_only_their_items() {
    let dir = TempDir::new().expect("a temporary folder");
    let folder = dir.path().join("data");
    let cloud = FakeLaunchDarkly::start().await;
    let mut kept = some_data();
    for (key, version, _) in ODD {
        kept["flags"][key] = flag(key, version);
        kept["segments"][key] = segment(key, version);
    }
    let setup = || Setup::new().cloud(&cloud).set("data.dir", folder.to_str().expect("a path in UTF-8"));
    let items = ["flags", "segments"].map(|kind| kept[kind].as_object().expect("items").len()).iter().sum();
    let gateway = setup().data(SDK_KEY, kept).start().await;
    gateway.stop().await;
    let text = |version: &str| format!("\"version\":{version}");
    // Of flags and segments: each time the first remaining one is replaced.
    let odd = ODD.into_iter().chain(ODD).map(|(_, version, odd)| (text(&version.to_string()), text(odd)));
    // An item that was checked by the same rules would not be checked again.
    let other_rules = ("\"rules\":1".to_owned(), "\"rules\":0".to_owned());
    let replacements: Vec<_> = odd.chain(std::iter::repeat_n(other_rules, items)).collect();
    forge(&folder.join("store.redb"), &replacements);

    cloud.goes_down();
    let gateway = setup().without_waiting().start().await;
    gateway.wait_until_ready().await;
    serves_the_rest("on disk", &gateway).await;
    // Upstream's versions of them are accepted, whatever the version.
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    let newest = data([flag("plain", 3), flag("huge", 1)], [segment("huge", 1)]);
    cloud.puts(SDK_KEY, &newest);
    cloud.comes_back();
    sdk.receives("put", put(newest)).await;
    cloud.patches(SDK_KEY, &flag("huge", 2));
    assert_eq!(sdk.receives_event("patch").await["data"]["version"], 2);
    gateway.stop().await;
}

/// Writes items of each kind with such versions into the database.
fn write_odd(redis: &RedisServer) {
    for (key, _, odd) in ODD {
        for (collection, mut item) in [("features", flag(key, 1)), ("segments", segment(key, 1))] {
            item.as_object_mut().expect("an object").remove("version");
            let text = format!("{{\"version\":{odd},{}", &item.to_string()[1..]);
            redis.ask(&["HSET", &format!("launchdarkly:{collection}"), key, &text]);
        }
    }
}

#[tokio::test]
async fn invalid_versions_in_the_database_affect_only_their_items() {
    let Some(redis) = RedisServer::start() else { return };
    redis.ask(&["HSET", "launchdarkly:features", "plain", &flag("plain", 3).to_string()]);
    redis.ask(&["HSET", "launchdarkly:segments", "crew", &segment("crew", 2).to_string()]);
    write_odd(&redis);
    redis.ask(&["SET", "launchdarkly:$inited", ""]);
    let setup = using(&redis, Setup::new()).set("launchdarkly.redis.poll_interval", "50ms");
    let gateway = setup.prepare(FakeLaunchDarkly::goes_down).without_waiting().start().await;
    gateway.wait_until_ready().await;
    serves_the_rest("in Redis", &gateway).await;
    // They do not block newer data of another gateway.
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives_event("put").await;
    redis.ask(&["HSET", "launchdarkly:features", "plain", &flag("plain", 4).to_string()]);
    assert_eq!(sdk.receives_event("patch").await["data"]["version"], 4);
    gateway.stop().await;
}

#[tokio::test]
async fn invalid_versions_in_the_database_are_replaced() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = using(&redis, Setup::with(some_data())).start().await;
    assert_version("before", &redis, "plain", 3).await;
    write_odd(&redis);
    for (key, ..) in ODD {
        gateway.upstream.patches(SDK_KEY, &flag(key, 2));
        assert_version("a flag", &redis, key, 2).await;
        gateway.upstream.patches_segment(SDK_KEY, &segment(key, 2));
        let is_replaced = || {
            let text = redis.field("launchdarkly:segments", key).unwrap_or_default();
            serde_json::from_str::<Value>(&text).is_ok_and(|it| it["version"] == 2)
        };
        until(&format!("{key} in Redis"), is_replaced).await;
    }
    gateway.stop().await;
}
