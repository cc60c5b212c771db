//! One gateway is connected to upstream; another one takes over when it cannot go on.

use serde_json::json;
use yardarm_testkit::{RedisServer, until};

use super::{Fleet, browser, usual_environment};
use crate::flags::{data, flag, some_data};
use crate::program::Signal;
use crate::running::SDK_KEY;

#[tokio::test]
async fn one_gateway_is_connected_and_all_serve_every_change() {
    let Some(redis) = RedisServer::start() else { return };
    let mut fleet = Fleet::start(&redis, 3, &usual_environment()).await;
    assert_eq!(fleet.settles().await, 0, "the first one leads");
    assert_eq!((fleet.open_streams(), fleet.cloud.stream_requests().len()), (1, 1));
    let mut sdks = Vec::new();
    for member in &fleet.members {
        let mut sdk = member.opens(SDK_KEY).await;
        sdk.receives("put", crate::flags::put(some_data())).await;
        sdks.push(sdk);
    }
    fleet.cloud.patches(SDK_KEY, &flag("plain", 4));
    fleet.cloud.patches(SDK_KEY, &flag("fresh", 1));
    fleet.cloud.deletes(SDK_KEY, "/flags/plain", 5);
    for sdk in &mut sdks {
        sdk.receives_text("\"fresh\"").await;
        sdk.receives_text("\"version\":5").await;
    }
    for member in &fleet.members {
        assert!(!member.program().answers(&browser()).await.text().contains("plain"));
        member.waits_for("connection", &["valid"]).await;
        let report = member.report().await;
        assert_eq!((&report["connection"], &report["is_stale"]), (&json!("valid"), &json!(false)), "{report}");
    }
    let expected = ["yardarm_fleet_available 1", "yardarm_fleet_members 3"];
    yardarm_testkit::within("the metrics of the fleet", async {
        loop {
            let metrics = fleet.members[1].program().operator_gets("/metrics").await.text().to_owned();
            let is_follower = |it: &str| it.contains("role=\"follower\"") && it.ends_with(" 1");
            if expected.iter().all(|it| metrics.contains(it)) && metrics.lines().any(is_follower) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    // What is published outlives the gateways; a gateway that starts without upstream serves it.
    let late = &mut fleet.members[2];
    late.kill().await;
    std::fs::remove_dir_all(late.dir.path().join("data")).unwrap();
    late.upstream.cut();
    late.start().await;
    late.program().wait_until_ready().await;
    assert!(late.program().answers(&browser()).await.text().contains("fresh"));
    assert_eq!(fleet.cloud.stream_requests().len(), 1);
}

#[tokio::test]
async fn another_gateway_takes_over_when_the_leader_is_killed_or_ends() {
    let Some(redis) = RedisServer::start() else { return };
    let mut fleet = Fleet::start(&redis, 3, &usual_environment()).await;
    let mut version = 10;
    for end in [Signal::KILL, Signal::TERM] {
        let leader = fleet.settles().await;
        let mut sdks = Vec::new();
        for (_, member) in fleet.members.iter().enumerate().filter(|it| it.0 != leader) {
            let mut sdk = member.opens(SDK_KEY).await;
            sdk.receives_event("put").await;
            sdks.push(sdk);
        }
        let program = fleet.members[leader].program.take().unwrap();
        program.signal(end);
        program.ends().await;
        // While there is no leader.
        fleet.cloud.patches(SDK_KEY, &flag("plain", version));
        fleet.settles().await;
        fleet.all_serve(version).await;
        // The new leader announces all of its first data, as after any reconnection; streams stay open.
        version += 1;
        fleet.cloud.patches(SDK_KEY, &flag("plain", version));
        for sdk in &mut sdks {
            sdk.receives_text(&format!("\"version\":{version}")).await;
        }
        until("one stream", || fleet.open_streams() == 1).await;
        fleet.members[leader].start().await;
        fleet.members[leader].serves(SDK_KEY, version).await;
        version += 1;
    }
}

#[tokio::test]
async fn a_leader_that_was_suspended_does_not_overwrite_what_is_newer() {
    let Some(redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    let leader = fleet.settles().await;
    let other = &fleet.members[1 - leader];
    fleet.members[leader].program().signal(Signal::STOP);
    other.waits_for_role(&["leader"]).await;
    // The suspended one receives neither.
    fleet.cloud.puts(SDK_KEY, &data([flag("plain", 20)], []));
    other.serves(SDK_KEY, 20).await;
    fleet.members[leader].program().signal(Signal::CONT);
    fleet.members[leader].waits_for_role(&["follower"]).await;
    fleet.all_serve(20).await;
    fleet.cloud.patches(SDK_KEY, &flag("plain", 21));
    fleet.all_serve(21).await;
    assert_eq!(fleet.settles().await, 1 - leader);
    until("one stream", || fleet.open_streams() == 1).await;
}

#[tokio::test]
async fn a_leader_that_cannot_reach_upstream_hands_over() {
    let Some(redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    let leader = fleet.settles().await;
    fleet.members[leader].upstream.cut();
    fleet.members[1 - leader].waits_for_role(&["leader"]).await;
    fleet.cloud.patches(SDK_KEY, &flag("plain", 30));
    fleet.all_serve(30).await;
    // Upstream is reachable by way of the other gateway.
    fleet.members[leader].waits_for("connection", &["valid"]).await;
}

#[tokio::test]
async fn followers_show_that_upstream_is_gone() {
    let Some(redis) = RedisServer::start() else { return };
    let fleet = Fleet::start(&redis, 2, &usual_environment()).await;
    let leader = fleet.settles().await;
    for member in &fleet.members {
        member.waits_for("connection", &["valid"]).await;
    }
    fleet.members.iter().for_each(|it| it.upstream.cut());
    for member in &fleet.members {
        member.waits_for("connection", &["interrupted"]).await;
    }
    let text =
        fleet.members[1 - leader].program().answers(&yardarm_testkit::Call::get("/status")).await.text().to_owned();
    assert!(text.contains("\"INTERRUPTED\""), "{text}");
    fleet.all_serve(3).await;
    let upstream = fleet.cloud.url().trim_start_matches("http://").parse().unwrap();
    fleet.members.iter().for_each(|it| it.upstream.lead_to(upstream));
    for member in &fleet.members {
        member.waits_for("connection", &["valid"]).await;
    }
}
