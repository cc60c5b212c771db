//! A gateway whose upstream is a gateway shows that data cannot arrive, though its own connection works.

use serde_json::json;
use yardarm_testkit::Call;

use super::{Fleet, Member, usual_environment};
use crate::flags::{flag, some_data};
use crate::running::SDK_KEY;
use yardarm_testkit::FakeLaunchDarkly;

#[tokio::test]
async fn staleness_travels_along_a_chain_of_three() {
    let cloud = FakeLaunchDarkly::start().await;
    cloud.add_environment(SDK_KEY);
    cloud.puts(SDK_KEY, &some_data());
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let more = format!("upstream_status_interval = \"100ms\"\n{}", usual_environment());
    let mut fleet = Fleet { cloud, members: Vec::new() };
    let mut upstream = fleet.cloud.url().trim_start_matches("http://").parse().unwrap();
    for _ in 0..3 {
        let mut member = Member::alone(nowhere, upstream, &more).await;
        member.start().await;
        member.program().wait_until_ready().await;
        upstream = member.program().address;
        fleet.members.push(member);
    }
    fleet.cloud.patches(SDK_KEY, &flag("plain", 4));
    fleet.all_serve(4).await;
    fleet.members[0].upstream.cut();
    for member in &fleet.members {
        member.waits_for("connection", &["interrupted"]).await;
        let status = member.program().answers(&Call::get("/status")).await.json();
        assert_eq!(status["environments"]["main"]["connectionStatus"]["state"], "INTERRUPTED", "{status}");
        let metrics = member.program().operator_gets("/metrics").await.text().to_owned();
        assert!(metrics.lines().any(|it| it.contains("state=\"interrupted\"") && it.ends_with(" 1")), "{metrics}");
    }
    let last = fleet.members[2].report().await;
    let message = last["last_error"]["message"].as_str().unwrap();
    assert_eq!(message, "the relay that is upstream has lost its own upstream");
    // What was known is served, and the end of the outage travels as well.
    fleet.all_serve(4).await;
    let cloud = fleet.cloud.url().trim_start_matches("http://").parse().unwrap();
    fleet.members[0].upstream.lead_to(cloud);
    for member in &fleet.members {
        member.waits_for("connection", &["valid"]).await;
    }
    assert_eq!(fleet.members[2].report().await["role"], json!(null));
}
