//! V015: polls of FDv2 by clients that have a state already, while memberships in a Big Segment change.

use serde_json::{Value, json};
use yardarm_testkit::{Call, RedisServer, until, within};

use super::{HASH, forgets, gated, includes, revision, setup, synchronized_on};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY};

/// Returns the value of `gated` in a poll that is not up to date.
fn value(body: &Value) -> Option<&Value> {
    let events = body["events"].as_array()?;
    let object = events.iter().find(|it| it["event"] == "put-object" && it["data"]["key"] == "gated")?;
    Some(&object["data"]["object"]["value"])
}

#[tokio::test]
async fn a_changed_membership_is_seen_by_the_next_poll() {
    // V015
    let Some(redis) = RedisServer::start() else { return };
    let gateway = setup(&redis, gated()).start().await;
    until("a stream", || synchronized_on(&redis).is_some()).await;
    let polls = [ENV_ID, MOBILE_KEY].map(|it| format!("/sdk/poll/eval/{CTX}?auth={it}"));
    let mut first = Vec::new();
    for poll in &polls {
        let answer = gateway.answers(&Call::get(poll.as_str())).await;
        assert_eq!(value(&answer.json()), Some(&json!(false)), "V015: {poll}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let state = answer.json()["events"][0]["data"]["payloads"][0]["id"].as_str().expect("a state").to_owned();
        first.push((tag, state));
    }
    for (number, changes, is_member) in [(1, includes(HASH), true), (2, forgets(HASH), false)] {
        gateway.upstream.revises(SDK_KEY, &revision(number, changes));
        for (poll, (tag, state)) in polls.iter().zip(&mut first) {
            let tagged = Call::get(poll.as_str()).header("If-None-Match", tag);
            let based = Call::get(format!("{poll}&basis={state}"));
            let changed = async {
                while gateway.answers(&tagged).await.status == 304 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            };
            within("V015: a poll that is not answered 304", changed).await;
            let answer = gateway.answers(&tagged).await;
            assert_eq!((answer.status, value(&answer.json())), (200, Some(&json!(is_member))), "V015: {tagged}");
            let by_basis = gateway.answers(&based).await.json();
            assert_eq!(value(&by_basis), Some(&json!(is_member)), "V015: {based}");
            *tag = answer.header("etag").expect("a tag").to_owned();
            *state = by_basis["events"][0]["data"]["payloads"][0]["id"].as_str().expect("a state").to_owned();
            // Without another change both are up to date.
            let again = Call::get(poll.as_str()).header("If-None-Match", tag);
            assert_eq!(gateway.answers(&again).await.status, 304, "V015");
        }
    }
}
