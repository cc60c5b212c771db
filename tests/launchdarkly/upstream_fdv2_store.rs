//! FDv2 upstream with a database: change sets are written, and items of other gateways are served meanwhile.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::RedisServer;

use super::store::{assert_version, using};
use super::upstream_fdv2::{POLL, flags, paths, setup, streaming};
use crate::flags::{by_key, flag, put, some_data};
use crate::running::SDK_KEY;

/// Writes a flag into the database, like another gateway.
fn writes(redis: &RedisServer, flag: &Value) {
    let key = flag["key"].as_str().expect("a key");
    redis.ask(&["HSET", "launchdarkly:features", key, &flag.to_string()]);
}

#[tokio::test]
async fn the_database_follows_change_sets() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = using(&redis, setup()).start().await;
    streaming(&gateway, 1).await;
    assert_version("U048", &redis, "plain", 3).await;
    gateway.upstream.patches_together(SDK_KEY, &[flag("plain", 4), flag("second", 90)]);
    assert_version("U049", &redis, "plain", 4).await;
    assert_version("U049", &redis, "second", 90).await;
    gateway.upstream.deletes(SDK_KEY, "/flags/second", 0);
    assert_version("U049: a tombstone", &redis, "second", 91).await;
    gateway.upstream.patches(SDK_KEY, &flag("second", 1));
    assert_version("U049: begun anew", &redis, "second", 1).await;
}

#[tokio::test]
async fn confirmed_data_replaces_older_data_in_the_database() {
    let Some(redis) = RedisServer::start() else { return };
    let dir = TempDir::new().expect("a temporary folder");
    let setup = setup().set("data.dir", dir.path().to_str().expect("a path in UTF-8"));
    let cloud = yardarm_testkit::FakeLaunchDarkly::start().await;
    let gateway = using(&redis, setup).cloud(&cloud).start().await;
    streaming(&gateway, 1).await;
    assert_version("U053", &redis, "plain", 3).await;
    writes(&redis, &flag("plain", 1));
    let gateway = gateway.restarted().await;
    assert_version("U053: after `none`", &redis, "plain", 3).await;
    assert_eq!(paths(&cloud, POLL)[1], "/sdk/poll?basis=%28p%3Afake%3A1%29", "U053");
    gateway.stop().await;
}

#[tokio::test]
async fn data_of_other_gateways_is_in_no_known_state() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = using(&redis, setup()).set("launchdarkly.redis.poll_interval", "50ms").start().await;
    streaming(&gateway, 1).await;
    assert_version("U048", &redis, "plain", 3).await;
    let mut sdk = gateway.opens("/all", SDK_KEY).await;
    sdk.receives("put", put(some_data())).await;
    gateway.upstream.goes_down();
    let last = || paths(&gateway.upstream, POLL).last().cloned().unwrap_or_default();
    gateway.eventually("polls in the place of the stream", || last().ends_with("%3A1%29")).await;
    writes(&redis, &flag("plain", 9));
    sdk.receives("patch", json!({"path": "/flags/plain", "data": flag("plain", 9)})).await;
    gateway.eventually("polls without a basis", || last() == POLL).await;
    gateway.upstream.comes_back();
    sdk.receives("put", put(some_data())).await;
    assert_eq!(flags(&gateway).await, by_key([flag("plain", 3)]));
}
