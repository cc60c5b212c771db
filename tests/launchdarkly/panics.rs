//! Panics, made on purpose in tasks that only some gateways have: the list of environments, and the database.
#![cfg(debug_assertions)]

use yardarm_testkit::{RedisServer, until};

use super::auto_config::{AUTO_KEY, becomes, list, main, poll, ready, setup};
use super::store::{has_version, using};
use crate::flags::{data, flag, some_data};
use crate::running::{SDK_KEY, Setup};

#[tokio::test]
async fn a_key_is_withdrawn_although_the_list_of_environments_panicked() {
    let gateway = ready(setup().data("sdk-b", data([flag("plain", 4)], []))).await;
    becomes(&gateway, "before", &poll("sdk-a"), 200).await;
    gateway.panics_in("auto-configuration").await;
    until("another stream of the list", || gateway.upstream.open_streams(AUTO_KEY) == 1).await;
    gateway.upstream.lists(AUTO_KEY, &list([main(2, "sdk-b")]));
    becomes(&gateway, "the new key", &poll("sdk-b"), 200).await;
    becomes(&gateway, "the old key", &poll("sdk-a"), 401).await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_database_is_written_after_a_panic() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = using(&redis, Setup::with(some_data())).start().await;
    has_version("before", &redis, "plain", 3).await;
    let known = gateway.panics().await;
    let tasks = ["store writer", "store follower", "big segments", "big segment freshness"];
    for (version, task) in (10..).zip(tasks) {
        assert!(known.contains_key(task), "{task} is counted from the start: {known:?}");
        gateway.panics_in(task).await;
        gateway.upstream.patches(SDK_KEY, &flag("plain", version));
        has_version(task, &redis, "plain", version).await;
    }
    gateway.stop().await;
}
