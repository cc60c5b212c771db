//! L235 to L241: payload filters, each served like a separate environment.

use serde_json::json;
use yardarm_testkit::Call;

use crate::expected::{TEXT_B, TEXT_C, TEXT_D, empty, text};
use crate::flags::{by_key, data, flag, put};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

async fn gateway() -> Running {
    let setup = Setup::with(data([flag("whole", 1)], [])).environment(json!({"filters": ["a", "b c"]})).events();
    let setup = setup.data(&format!("{SDK_KEY}?filter=a"), data([flag("part", 2)], []));
    setup.data(&format!("{SDK_KEY}?filter=b%20c"), data([], [])).start().await
}

#[tokio::test]
async fn the_filter_chooses_the_data() {
    let gateway = gateway().await;
    let poll = |query: &str| Call::get(format!("/sdk/flags{query}")).key(SDK_KEY);
    let whole = by_key([flag("whole", 1)]);
    let part = by_key([flag("part", 2)]);
    for (row, query, flags) in [
        ("L235", "?filter=a", &part),
        ("L238", "?filter=", &whole),
        ("L238", "", &whole),
        ("L238: undecodable", "?filter=%zz", &whole),
        ("L238: a semicolon", "?filter=a;b", &whole),
        ("L238: the first one", "?filter=a&filter=unknown", &part),
        ("U003", "?filter=b+c", &json!({})),
        ("U003", "?filter=b%20c", &json!({})),
    ] {
        let answer = gateway.answers(&poll(query)).await;
        assert_eq!((answer.status, &answer.json()), (200, flags), "{row}: {query}");
    }
    let evaluated = gateway.answers(&Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}?filter=a"))).await;
    assert_eq!(evaluated.json(), json!({"part": {"value": true, "variation": 0, "version": 2}}), "L235");

    let browser = |call: Call| (call, text(404, TEXT_B).cors_methods("GET,OPTIONS"));
    for (row, (call, expected)) in [
        ("L236", (Call::get("/all?filter=unknown").key(SDK_KEY), text(404, TEXT_B))),
        ("L236", (poll("?filter=A"), text(404, TEXT_B))),
        ("L236", (Call::get("/mping?filter=unknown").key(MOBILE_KEY), text(404, TEXT_B))),
        ("L237", browser(Call::get(format!("/ping/{ENV_ID}?filter=unknown")))),
        ("L237", browser(Call::options(format!("/ping/{ENV_ID}?filter=unknown")))),
        ("L022, L236", (Call::get("/all?filter=unknown").key("sdk-unknown"), text(401, TEXT_C))),
        ("L031, L237", (Call::get("/ping/unknown?filter=a"), text(404, TEXT_D).cors_methods("GET,OPTIONS"))),
    ] {
        gateway.answers_as(row, call, expected).await;
    }
}

#[tokio::test]
async fn each_variant_has_its_own_stream_both_ways() {
    let gateway = gateway().await;
    let mut paths: Vec<_> = gateway.upstream.stream_requests().into_iter().map(|it| it.path).collect();
    paths.sort();
    assert_eq!(paths, ["/all", "/all?filter=a", "/all?filter=b%20c"], "U003");

    let mut whole = gateway.opens("/all", SDK_KEY).await;
    let mut part = gateway.opens("/all?filter=a", SDK_KEY).await;
    whole.receives("put", put(data([flag("whole", 1)], []))).await;
    part.receives("put", put(data([flag("part", 2)], []))).await;
    gateway.upstream.patches(&format!("{SDK_KEY}?filter=a"), &flag("part", 3));
    part.receives("patch", json!({"path": "/flags/part", "data": flag("part", 3)})).await; // L239
    gateway.upstream.patches(SDK_KEY, &flag("whole", 4));
    whole.receives("patch", json!({"path": "/flags/whole", "data": flag("whole", 4)})).await; // L239: and not the other

    let status = gateway.status().await;
    let names: Vec<_> = status["environments"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["main", "main/a", "main/b c"], "L240");

    let call = Call::post("/bulk?filter=a", r#"[{"n":1}]"#).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    gateway.answers_as("L241", call, empty(202)).await;
    gateway.eventually("L241: the event", || gateway.upstream.posts("/bulk").len() == 1).await;
    assert_eq!(gateway.upstream.posts("/bulk")[0].path, "/bulk", "L241: without the query");
}
