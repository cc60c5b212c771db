//! The database of a fleet fails, loses its data, or is replaced: every gateway goes on.

use std::net::SocketAddr;

use serde_json::json;
use yardarm_testkit::{RedisServer, Reply, until};

use super::{Fleet, usual_environment};
use crate::flags::flag;
use crate::running::SDK_KEY;

fn address(redis: &RedisServer) -> SocketAddr {
    redis.url().trim_start_matches("redis://").parse().expect("an address")
}

#[tokio::test]
async fn without_the_database_each_gateway_is_connected_by_itself() {
    let Some(mut redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    fleet.settles().await;
    let mut sdks = Vec::new();
    for member in &fleet.members {
        let mut sdk = member.opens(SDK_KEY).await;
        sdk.receives_event("put").await;
        sdks.push(sdk);
    }
    redis.kill();
    for member in &fleet.members {
        member.waits_for_role(&["alone"]).await;
    }
    until("two streams", || fleet.open_streams() == 2).await;
    fleet.cloud.patches(SDK_KEY, &flag("plain", 10));
    fleet.all_serve(10).await;
    redis.restart();
    fleet.settles().await;
    until("one stream", || fleet.open_streams() == 1).await;
    fleet.cloud.patches(SDK_KEY, &flag("plain", 11));
    fleet.all_serve(11).await;
    for sdk in &mut sdks {
        sdk.receives_text("\"version\":11").await;
    }
    let warned = fleet.members.iter().all(|it| it.program().has_logged("the database of the fleet is unavailable"));
    assert!(warned, "an outage is logged");
}

#[tokio::test]
async fn a_gateway_starts_without_the_database() {
    let Some(mut redis) = RedisServer::start() else { return };
    redis.kill();
    let fleet = Fleet::start(&redis, 1, &usual_environment()).await;
    fleet.all_serve(3).await;
    assert_eq!(fleet.members[0].waits_for_role(&["alone"]).await, "alone");
}

#[tokio::test]
async fn lost_content_is_written_again_once() {
    let Some(redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    let leader = fleet.settles().await;
    redis.ask(&["FLUSHALL"]);
    let source = redis_source(&redis).await;
    until("content", || redis.ask(&["HLEN", &source]) == Reply::Number(3)).await;
    fleet.settles().await;
    fleet.cloud.patches(SDK_KEY, &flag("plain", 10));
    fleet.all_serve(10).await;
    assert_eq!(fleet.members[leader].report().await["connection"], json!("valid"));
    // Nothing else is written while nothing changes.
    let renames = redis.calls("rename").0;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(redis.calls("rename").0, renames);
}

/// The key of the only content, once there is one.
async fn redis_source(redis: &RedisServer) -> String {
    let mut names = Vec::new();
    until("content", || {
        names = redis.names(&["KEYS", "{yardarm:default}:content:*"]);
        names.len() == 1
    })
    .await;
    names.remove(0)
}

#[tokio::test]
async fn a_gateway_without_the_database_leaves_the_others_alone() {
    let Some(redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 3, &usual_environment()).await;
    let leader = fleet.settles().await;
    // Once a follower, once the leader.
    for (round, apart) in [(leader + 1) % 3, leader].into_iter().enumerate() {
        let version = 10 + 10 * i64::try_from(round).unwrap();
        fleet.members[apart].redis.cut();
        fleet.members[apart].waits_for_role(&["alone"]).await;
        fleet.cloud.patches(SDK_KEY, &flag("plain", version));
        fleet.all_serve(version).await;
        until("the stream of the leader and its own", || fleet.open_streams() == 2).await;
        fleet.members[apart].redis.lead_to(address(&redis));
        fleet.settles().await;
        until("one stream", || fleet.open_streams() == 1).await;
        fleet.cloud.patches(SDK_KEY, &flag("plain", version + 1));
        fleet.all_serve(version + 1).await;
    }
}

#[tokio::test]
async fn a_failover_that_loses_writes_loses_no_data() {
    let Some(redis) = RedisServer::start() else { return };
    let Some(replica) = RedisServer::start() else { return };
    let (host, port) = (address(&redis).ip().to_string(), address(&redis).port().to_string());
    replica.ask(&["REPLICAOF", &host, &port]);
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    fleet.settles().await;
    until("a replica in sync", || !replica.names(&["KEYS", "{yardarm:default}:content:*"]).is_empty()).await;
    // These writes do not reach the replica, which is promoted.
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    fleet.cloud.patches(SDK_KEY, &flag("plain", 10));
    fleet.all_serve(10).await;
    for member in &fleet.members {
        member.redis.lead_to(address(&replica));
    }
    fleet.cloud.patches(SDK_KEY, &flag("plain", 11));
    fleet.settles().await;
    fleet.all_serve(11).await;
    fleet.cloud.patches(SDK_KEY, &flag("other", 1));
    let content = redis_source(&replica).await;
    until("both items", || {
        replica.field(&content, "features/plain").is_some_and(|it| it.contains("\"version\":11"))
            && replica.field(&content, "features/other").is_some()
    })
    .await;
}
