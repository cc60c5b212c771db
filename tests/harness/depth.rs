//! Deeply nested data: it can neither end the process nor delay other requests.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use yardarm_testkit::{Call, FakeHarness, within};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, flag, started, token};

fn nested_segments(count: usize) -> Vec<Value> {
    let clause = |op: &str, value: String| json!({"id": "c", "attribute": "identifier", "op": op, "negate": false, "values": [value]});
    let segment = |it: usize| {
        let rule =
            if it + 1 < count { clause("segmentMatch", format!("s{}", it + 1)) } else { clause("equal", "ada".into()) };
        json!({"identifier": format!("s{it}"), "name": "", "version": 1, "rules": [rule]})
    };
    (0..count).map(segment).collect()
}

fn chained_flags(count: usize) -> Vec<Value> {
    let chained = |it: usize| {
        let mut flag = flag(&format!("f{it}"), 1);
        if it + 1 < count {
            flag["prerequisites"] = json!([{"feature": format!("f{}", it + 1), "variations": ["true"]}]);
        }
        flag
    };
    (0..count).map(chained).collect()
}

async fn deep_cloud() -> FakeHarness {
    let cloud = cloud().await;
    let mut flags = chained_flags(6000);
    let mut member = flag("member", 1);
    member["variationToTargetMap"] = json!([{"variation": "false", "targetSegments": ["s0"]}]);
    flags.push(member);
    cloud.puts(ENV, flags, nested_segments(9000));
    cloud
}

#[tokio::test]
async fn deep_data_is_evaluated_without_delaying_others() {
    let cloud = deep_cloud().await;
    let gateway = started(&cloud, "").await;
    let (mine, other) = (token(&gateway, KEY).await, token(&gateway, OTHER_KEY).await);
    let of = |target: &str| Call::get(format!("/client/env/{ENV}/target/{target}/evaluations")).key(&mine);
    for (target, value) in [("ada", "false"), ("eve", "true")] {
        let answer = within("all flags", gateway.answers(&of(target))).await.json();
        let all = answer.as_array().expect("a list");
        assert_eq!(all.len(), 6001, "{target}");
        assert_eq!(all.iter().find(|it| it["flag"] == "member").map(|it| it["value"].clone()), Some(json!(value)));
        assert!(all.iter().all(|it| it["flag"] == "member" || it["value"] == "true"), "{target}");
        let one = Call::get(format!("/client/env/{ENV}/target/{target}/evaluations/member")).key(&mine);
        assert_eq!(gateway.answers(&one).await.json()["value"], value);
    }
    // The innermost flag decides the result.
    let mut last = flag("f5999", 2);
    last["state"] = json!("off");
    cloud.changes_flag(ENV, &last);
    within("the change", async {
        loop {
            let answer = gateway.answers(&of("eve")).await.json();
            if answer.as_array().expect("a list").iter().all(|it| it["flag"] == "member" || it["value"] == "false") {
                return;
            }
        }
    })
    .await;
    // Others are served meanwhile.
    let calls: Vec<_> = (0..16).map(|it| of(&it.to_string())).collect();
    let expensive = futures_util::future::join_all(calls.iter().map(|it| gateway.answers(it)));
    let cheap = async {
        let call = Call::get(format!("/client/env/{OTHER_ENV}/feature-configs")).key(&other);
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let start = Instant::now();
            assert_eq!(gateway.answers(&call).await.status, 200);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let (expensive, slowest) = tokio::join!(expensive, cheap);
    assert!(expensive.iter().all(|it| it.status == 200));
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
