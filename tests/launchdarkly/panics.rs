//! Injected panics in tasks that only some gateways have: the list of environments, the database, and the archive of
//! offline mode.
#![cfg(debug_assertions)]

use yardarm_testkit::{Call, FakeLaunchDarkly, RedisServer, until};

use super::auto_config::{AUTO_KEY, becomes, list, main, poll, ready, setup};
use super::offline::{Folder, contents};
use super::store::{assert_version, using};
use crate::flags::{data, flag, put, some_data};
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
    assert_version("before", &redis, "plain", 3).await;
    let known = gateway.panics().await;
    let tasks = ["store writer", "store follower", "big segments", "big segment freshness"];
    for (version, task) in (10..).zip(tasks) {
        assert!(known.contains_key(task), "{task} is counted from the start: {known:?}");
        gateway.panics_in(task).await;
        gateway.upstream.patches(SDK_KEY, &flag("plain", version));
        assert_version(task, &redis, "plain", version).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn data_from_the_database_is_served_although_its_restoration_panicked() {
    let Some(redis) = RedisServer::start() else { return };
    let filled = using(&redis, Setup::with(some_data())).start().await;
    assert_version("before", &redis, "plain", 3).await;
    filled.stop().await;
    let setup = using(&redis, Setup::new()).set("launchdarkly.redis.poll_interval", "50ms").without_waiting();
    // Long enough for the panic to be armed.
    redis.ask(&["CLIENT", "PAUSE", "1000", "ALL"]);
    let gateway = setup.prepare(FakeLaunchDarkly::goes_down).start().await;
    gateway.supervisor.faults().arm("apply change");
    gateway.counts_a_panic("upstream stream", 0).await;
    gateway.wait_until_ready().await;
    gateway.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_archive_is_served_although_its_reader_or_its_data_panicked() {
    let folder = Folder::with(&contents("d0", 1, 3));
    let gateway = folder.setup().start().await;
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    let known = gateway.panics().await;
    for (number, place) in (1..).zip(["offline archive", "offline data", "archive reader", "apply change"]) {
        let version = 3 + number;
        let is_task = place.starts_with("offline");
        if is_task {
            assert!(known.contains_key(place), "{place} is counted from the start: {known:?}");
            gateway.panics_in(place).await;
        } else {
            // Within a change.
            gateway.supervisor.faults().arm(place);
        }
        folder.replace(&contents(&format!("d{number}"), 1 + number, version));
        // Data that was served before the panic may be announced again.
        while stream.receives_event("put").await != put(data([flag("plain", version)], [])) {}
        assert!(gateway.supervisor.faults().are_over(), "{place}");
        let polled = gateway.answers(&Call::get("/sdk/flags/plain").key(SDK_KEY)).await;
        assert_eq!(polled.json()["version"], version, "{place}");
    }
    let counts = gateway.panics().await;
    for task in ["offline archive", "offline data", "archive reader"] {
        assert!(counts.get(task).is_some_and(|it| *it > 0), "{task}: {counts:?}");
    }
    gateway.stop().await;
}
