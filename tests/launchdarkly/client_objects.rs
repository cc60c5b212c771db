//! V001 to V019, V022, V026, V051: FDv2 for mobile SDKs and browsers.

use serde_json::{Value, json};
use yardarm_testkit::{Answer, Call};

use super::evaluation::segment_of;
use crate::expected::{ALLOWED_HEADERS, Expected, TEXT_A, TEXT_C, empty, message, not_initialized, text};
use crate::flags::{data, flag, flag_with, segment, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, Running, SDK_KEY, Setup};

const USER: &str = r#"{"kind":"user","key":"a"}"#;
const ORIGIN: &str = "https://app.example";

fn browser_poll(query: &str) -> Call {
    Call::get(format!("/sdk/poll/eval/{CTX}?auth={ENV_ID}{query}"))
}

fn mobile_poll(query: &str) -> Call {
    Call::get(format!("/sdk/poll/eval/{CTX}{query}")).key(MOBILE_KEY)
}

/// Adds the CORS headers that every answer on these routes has (V018, V019).
pub(super) fn cors(expected: Expected, methods: &str, origin: &str) -> Expected {
    expected
        .with("access-control-allow-credentials: false")
        .with(&format!(
            "access-control-allow-headers: {ALLOWED_HEADERS},X-LaunchDarkly-Instance-Id,Authorization,If-None-Match"
        ))
        .with(&format!("access-control-allow-methods: {methods}"))
        .with(&format!("access-control-allow-origin: {origin}"))
        .with("access-control-expose-headers: Date,ETag,X-LD-EnvID,X-LD-FD-Fallback,X-LD-FD-Fallback-TTL")
        .with("access-control-max-age: 300")
}

/// Returns state, intent code and objects of a poll, after checking that it is complete (V022).
fn transfer(answer: &Answer) -> (String, String, Vec<Value>) {
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let events = body["events"].as_array().expect("events");
    let intent = &events[0];
    assert_eq!(intent["event"], "server-intent");
    let payload = &intent["data"]["payloads"][0];
    let (state, code) = (payload["id"].as_str().expect("a state"), payload["intentCode"].as_str().expect("a code"));
    assert!(payload["target"].is_u64());
    if code == "none" {
        assert_eq!((events.len(), &payload["reason"]), (1, &json!("up-to-date")), "V007");
    } else {
        let last = events.last().expect("an end");
        assert_eq!((&last["event"], &last["data"]["state"]), (&json!("payload-transferred"), &json!(state)), "V022");
        assert_eq!(last["data"]["version"], payload["target"]);
        assert!(events[1..events.len() - 1].iter().all(|it| it["event"] == "put-object"), "{events:?}");
    }
    let objects = events.iter().filter(|it| it["event"] == "put-object").map(|it| it["data"].clone()).collect();
    (state.to_owned(), code.to_owned(), objects)
}

/// Returns the objects of an evalx answer: the same properties under other names.
fn objects_of(evalx: &Value) -> Vec<Value> {
    let results = evalx.as_object().expect("results");
    let object = |(key, result): (&String, &Value)| {
        let mut object = result.as_object().expect("a result").clone();
        let version = object.remove("version").expect("a version");
        object.insert("flagVersion".to_owned(), version.clone());
        json!({"version": version, "kind": "flag-eval", "key": key, "object": object})
    };
    results.iter().map(object).collect()
}

async fn intent_code(gateway: &Running, call: &Call) -> String {
    transfer(&gateway.answers(call).await).1
}

#[tokio::test]
async fn a_poll_has_the_results_of_evalx() {
    let hidden =
        |mobile: bool| json!({"clientSideAvailability": {"usingMobileKey": mobile, "usingEnvironmentId": !mobile}});
    let flags = [
        flag("plain", 3),
        flag_with("mobile", 4, hidden(true)),
        flag_with("browser", 5, hidden(false)),
        flag_with("watched", 6, json!({"trackEvents": true, "debugEventsUntilDate": 1_900_000_000_000_u64})),
        flag_with("needy", 7, json!({"prerequisites": [{"key": "plain", "variation": 0}]})),
        flag_with("experiment", 8, json!({"trackEventsFallthrough": true})),
        flag_with("off", 9, json!({"on": false, "offVariation": null})),
    ];
    let gateway = Setup::with(data(flags, [])).start().await;
    for reasons in ["", "withReasons=true", "withReasons=TRUE"] {
        let evalx = |path: &str| Call::get(format!("{path}?{reasons}"));
        let browser = gateway.answers(&evalx(&format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"))).await.json();
        let mobile = gateway.answers(&evalx(&format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY)).await.json();
        let with_body = |call: Call| call.header("Content-Type", "application/json").body(USER);
        for (row, call, expected) in [
            ("V001", browser_poll(&format!("&{reasons}")), &browser),
            ("V002", mobile_poll(&format!("?{reasons}")), &mobile),
            ("V002: in the query", Call::get(format!("/sdk/poll/eval/{CTX}?auth={MOBILE_KEY}&{reasons}")), &mobile),
            ("V003", with_body(Call::new("POST", format!("/sdk/poll/eval?auth={ENV_ID}&{reasons}"))), &browser),
            ("V003", with_body(Call::new("REPORT", format!("/sdk/poll/eval?auth={ENV_ID}&{reasons}"))), &browser),
            ("V003", with_body(Call::new("POST", format!("/sdk/poll/eval?{reasons}")).key(MOBILE_KEY)), &mobile),
            ("V004", Call::get(format!("/sdk/poll/eval/{CTX}==?auth={ENV_ID}&{reasons}")), &browser),
        ] {
            let answer = gateway.answers(&call).await;
            let (_, code, objects) = transfer(&answer);
            assert_eq!((code.as_str(), objects), ("xfer-full", objects_of(expected)), "{row}, V010, V013: {call}");
            assert_eq!(answer.header("x-ld-envid"), Some(ENV_ID), "V051: {call}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
    }
}

#[tokio::test]
async fn the_sampling_ratio_is_sent_where_it_applies() {
    let sampled = flag_with("sampled", 3, json!({"samplingRatio": 5}));
    let gateway = Setup::with(data([sampled, flag("plain", 1)], [])).start().await;
    let objects = transfer(&gateway.answers(&browser_poll("")).await).2;
    assert_eq!(objects[0]["object"], json!({"value": true, "variation": 0, "flagVersion": 1}), "V013");
    assert_eq!(objects[1]["object"]["samplingRatio"], 5, "V013");
}

#[tokio::test]
async fn the_credential_is_read_from_header_and_query() {
    let gateway = Setup::with(some_data()).start().await;
    let path = |query: &str| format!("/sdk/poll/eval/{CTX}{query}");
    for (row, call) in [
        ("V005: the header first", Call::get(path("?auth=unknown")).key(MOBILE_KEY)),
        ("V005: an environment ID in the header", Call::get(path("")).key(ENV_ID)),
        ("V005: with `api_key`", Call::get(path("")).key(&format!("api_key {MOBILE_KEY}"))),
        ("V005: a header with a blank", Call::get(path(&format!("?auth={ENV_ID}"))).key("Bearer x")),
    ] {
        assert_eq!(gateway.answers(&call).await.status, 200, "{row}");
    }
    let refused = |expected: Expected| cors(expected, "GET,OPTIONS", "*");
    for (row, call, expected) in [
        ("V006: none", Call::get(path("")), empty(401)),
        ("V006: none", Call::get(path("?auth=")), empty(401)),
        ("V006: unknown", Call::get(path("?auth=unknown")), text(401, TEXT_C)),
        ("V006: unknown", Call::get(path("?auth=mob-unknown")), text(401, TEXT_C)),
        ("V006: an SDK key", Call::get(path("")).key(SDK_KEY), text(401, TEXT_C)),
        ("V006: with a filter", Call::get(path("?auth=unknown&filter=x")), text(401, TEXT_C)),
        ("V006: a stream", Call::get(format!("/sdk/stream/eval/{CTX}?auth=unknown")), text(401, TEXT_C)),
    ] {
        gateway.answers_as(row, call, refused(expected)).await;
    }
    let filtered = gateway.answers(&Call::get(path(&format!("?auth={ENV_ID}&filter=unknown")))).await;
    assert_eq!(filtered.status, 200, "V028");
}

#[tokio::test]
async fn a_basis_and_a_tag_are_those_of_what_the_caller_has() {
    let gateway = Setup::with(some_data()).start().await;
    let first = gateway.answers(&browser_poll("")).await;
    let (state, tag) = (transfer(&first).0, first.header("etag").expect("a tag").to_owned());
    assert!(tag.starts_with(&format!("relay-{state}")));
    for (query, code) in [
        (format!("&basis={state}"), "none"),
        ("&basis=(p:old:7)".to_owned(), "xfer-full"),
        ("&basis=%28p%3Aold%3A7%29".to_owned(), "xfer-full"),
        ("&basis=".to_owned(), "xfer-full"),
        ("&basis=%zz".to_owned(), "xfer-full"),
    ] {
        assert_eq!(intent_code(&gateway, &browser_poll(&query)).await, code, "V007: {query}");
    }
    let encoded: String = state.bytes().map(|it| format!("%{it:02x}")).collect();
    assert_eq!(intent_code(&gateway, &mobile_poll(&format!("?basis={encoded}"))).await, "none", "V007");
    assert_eq!(intent_code(&gateway, &Call::get(format!("/sdk/poll?basis={state}")).key(SDK_KEY)).await, "none", "1.5");

    // V014: the tag is that of one context, kind of credential and form of results.
    let tagged = |call: Call| call.header("If-None-Match", &tag);
    let again = gateway.answers(&tagged(browser_poll(""))).await;
    assert_eq!((again.status, again.body.len()), (304, 0), "V014");
    assert_eq!(again.header("x-ld-envid"), Some(ENV_ID), "V051");
    let body = || Call::new("POST", format!("/sdk/poll/eval?auth={ENV_ID}")).header("Content-Type", "application/json");
    assert_eq!(gateway.answers(&tagged(body().body(USER))).await.status, 304, "V014: the same context in a body");
    let other = segment_of(r#"{"kind":"user","key":"b"}"#);
    for call in [
        Call::get(format!("/sdk/poll/eval/{other}?auth={ENV_ID}")),
        body().body(r#"{"kind":"user","key":"b"}"#),
        browser_poll("&withReasons=true"),
        mobile_poll(""),
    ] {
        assert_eq!(gateway.answers(&tagged(call)).await.status, 200, "V014");
    }
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    let mut stream = gateway.opens("/all", SDK_KEY).await;
    while stream.receives_event("put").await["data"]["flags"]["plain"]["version"] != 4 {
        stream = gateway.opens("/all", SDK_KEY).await;
    }
    assert_eq!(gateway.answers(&tagged(browser_poll(""))).await.status, 200, "V014: a change");
    assert_eq!(intent_code(&gateway, &browser_poll(&format!("&basis={state}"))).await, "xfer-full", "V007: a change");
}

#[tokio::test]
async fn contexts_bodies_and_hashes_are_checked() {
    let environment = json!({"secure_mode": true});
    let setup = Setup::with(some_data()).environment(environment).set("launchdarkly.max_client_request_body", "1KiB");
    let gateway = setup.start().await;
    let bad_hash = "Environment is in secure mode, and context hash does not match.";
    for path in ["poll", "stream"] {
        let unbuffered = |expected: Expected| match path {
            "stream" => expected.with("x-accel-buffering: no"),
            _ => expected,
        };
        let by_path = |expected: Expected| cors(unbuffered(expected), "GET,OPTIONS", "*");
        let by_body = |expected: Expected| cors(unbuffered(expected), "POST,REPORT,OPTIONS", "*");
        let get = |context: &str, query: &str| Call::get(format!("/sdk/{path}/eval/{context}?auth={ENV_ID}{query}"));
        let post = |body: String| Call::new("POST", format!("/sdk/{path}/eval?auth={ENV_ID}")).body(body);
        let of_type = |call: Call, content_type: &str| call.header("Content-Type", content_type);
        let json = |body: &str| of_type(post(body.to_owned()), "application/json");
        gateway.answers_as("V009", get(CTX, ""), by_path(message(400, bad_hash))).await;
        gateway.answers_as("V009", get(CTX, "&h=00"), by_path(message(400, bad_hash))).await;
        gateway.answers_as("V009", json(USER), by_body(message(400, bad_hash))).await;
        let no_base64 = "context part of URL path did not decode as valid base64";
        gateway.answers_as("V011", get("!", ""), by_path(message(400, no_base64))).await;
        let no_json = text(415, "Content-Type must be application/json.");
        gateway.answers_as("V011", of_type(post(USER.to_owned()), "text/plain"), by_body(no_json.clone())).await;
        gateway.answers_as("V011", post(USER.to_owned()), by_body(no_json)).await;
        let too_long = message(413, "Request body exceeds maximum allowed size.");
        gateway.answers_as("V011", json(&" ".repeat(1025)), by_body(too_long)).await;
        assert_eq!(gateway.answers(&json("")).await.status, 400, "V011: no context");
        assert_eq!(gateway.answers(&json(r#"{"kind":"user","key":""}"#)).await.status, 400, "V011: an empty key");
    }
    assert_eq!(gateway.answers(&mobile_poll("")).await.status, 200, "V009: not for mobile keys");
    let old_user = Call::new("REPORT", "/sdk/poll/eval").key(MOBILE_KEY).body(r#"{"key":""}"#);
    let old_user = old_user.header("Content-Type", "application/json");
    let no_key = cors(message(400, "User must have a 'key' attribute"), "POST,REPORT,OPTIONS", "*");
    gateway.answers_as("V011", old_user, no_key).await;
    for content_type in ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"] {
        let call = Call::new("POST", "/sdk/poll/eval").key(MOBILE_KEY).header("Content-Type", content_type).body(USER);
        assert_eq!(gateway.answers(&call).await.status, 200, "V012: {content_type}");
    }
}

#[tokio::test]
async fn preflights_need_no_credential_and_every_answer_has_cors() {
    let environments = json!({"allowed_origins": ["https://first.example", ORIGIN], "allowed_headers": ["X-A"]});
    let gateway = Setup::with(some_data()).environment(environments).start().await;
    for (path, methods) in [
        (format!("/sdk/poll/eval/{CTX}"), "GET,OPTIONS"),
        ("/sdk/poll/eval".to_owned(), "POST,REPORT,OPTIONS"),
        (format!("/sdk/stream/eval/{CTX}"), "GET,OPTIONS"),
        ("/sdk/stream/eval".to_owned(), "POST,REPORT,OPTIONS"),
    ] {
        let preflight = Call::options(path.as_str()).header("Origin", ORIGIN);
        gateway.answers_as("V018", preflight, cors(empty(200), methods, ORIGIN)).await;
        gateway.answers_as("V018", Call::options(path.as_str()), cors(empty(200), methods, "*")).await;
    }
    // With the environment ID in the query, its own rules hold.
    let call = Call::options(format!("/sdk/poll/eval/{CTX}?auth={ENV_ID}")).header("Origin", "https://other.example");
    let answer = gateway.answers(&call).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://first.example"), "V018");
    assert!(answer.header("access-control-allow-headers").is_some_and(|it| it.ends_with(",X-A")), "V018");
    let call = Call::get(format!("/sdk/poll/eval/{CTX}?auth=unknown")).header("Origin", ORIGIN);
    gateway.answers_as("V019", call, cors(text(401, TEXT_C), "GET,OPTIONS", ORIGIN)).await;
    let stream =
        gateway.opens_with(&Call::get(format!("/sdk/stream/eval/{CTX}?auth={ENV_ID}")).header("Origin", ORIGIN)).await;
    let head = stream.client().head();
    assert_eq!(head.header("access-control-allow-origin"), Some(ORIGIN), "V019");
    assert_eq!(head.header("x-ld-envid"), Some(ENV_ID), "V051");
}

#[tokio::test]
async fn without_data_polls_are_503_and_streams_wait() {
    let setup = Setup::new().set("launchdarkly.init_timeout", "50ms").set("launchdarkly.heartbeat_interval", "50ms");
    let gateway = setup.without_waiting().start().await;
    let call = Call::get(format!("/sdk/stream/eval/{CTX}")).key(MOBILE_KEY);
    let mut sdk = gateway.opens_when_ready(&format!("/sdk/stream/eval/{CTX}"), MOBILE_KEY).await;
    sdk.receives_only_heartbeats(2).await;
    gateway.answers_as("V026", browser_poll(""), cors(not_initialized(), "GET,OPTIONS", "*")).await;
    gateway.upstream.puts(SDK_KEY, &some_data());
    sdk.receives_ping().await;
    assert_eq!(gateway.answers(&mobile_poll("")).await.status, 200, "V026");
    let mut late = gateway.opens_with(&call).await;
    late.receives_ping().await;
    let auto = super::auto_config::setup().without_waiting().start().await;
    auto.answers_as("V006", browser_poll(""), cors(text(503, TEXT_A), "GET,OPTIONS", "*")).await;
}

#[tokio::test]
async fn a_stream_sends_a_ping_for_each_change() {
    // V016
    let gateway = Setup::with(some_data()).start().await;
    let with_body = |method| {
        let call = Call::new(method, "/sdk/stream/eval").key(MOBILE_KEY);
        call.header("Content-Type", "application/json").body(USER)
    };
    let mut streams = Vec::new();
    for call in [
        Call::get(format!("/sdk/stream/eval/{CTX}?auth={ENV_ID}&basis=x")),
        Call::get(format!("/sdk/stream/eval/{CTX}")).key(MOBILE_KEY),
        with_body("POST"),
        with_body("REPORT"),
    ] {
        let mut sdk = gateway.opens_with(&call).await;
        sdk.receives_ping().await;
        streams.push(sdk);
    }
    let before = transfer(&gateway.answers(&browser_poll("")).await).0;
    gateway.upstream.patches(SDK_KEY, &flag("plain", 4));
    for sdk in &mut streams {
        sdk.receives_ping().await;
        // A client that polls at once with the state that it has receives the change.
        let (state, code, objects) = transfer(&gateway.answers(&browser_poll(&format!("&basis={before}"))).await);
        assert_eq!((code.as_str(), &objects[0]["version"]), ("xfer-full", &json!(4)));
        assert_ne!(state, before);
    }
}

#[tokio::test]
async fn an_evaluated_stream_sends_objects() {
    // V017
    let hidden = json!({"clientSideAvailability": {"usingMobileKey": false, "usingEnvironmentId": false}});
    let clause = json!({"attribute": "", "op": "segmentMatch", "values": ["crew"], "negate": false});
    let crewed = flag_with("crewed", 2, json!({"rules": [{"id": "r", "variation": 1, "clauses": [clause]}]}));
    let setup = Setup::with(data([crewed, flag("plain", 3)], [segment("crew", 2)]));
    let gateway = setup.set("launchdarkly.client_streams", "evaluated").start().await;
    let mut sdk = gateway.opens_with(&Call::get(format!("/sdk/stream/eval/{CTX}?auth={ENV_ID}"))).await;
    let (state, _, mut objects) = transfer(&gateway.answers(&browser_poll("")).await);
    let intent = sdk.receives_event("server-intent").await;
    assert_eq!(
        (&intent["payloads"][0]["id"], &intent["payloads"][0]["intentCode"]),
        (&json!(state), &json!("xfer-full"))
    );
    for object in &objects {
        sdk.receives("put-object", object.clone()).await;
    }
    assert_eq!(sdk.receives_event("payload-transferred").await["state"], state);

    let mut crew = segment("crew", 3);
    crew["included"] = json!(["a"]);
    let cloud = &gateway.upstream;
    type Change<'a> = (&'a str, &'a dyn Fn(), &'a str);
    let changes: [Change<'_>; 5] = [
        ("a flag", &|| cloud.patches(SDK_KEY, &flag("plain", 4)), "put-object"),
        ("a segment, which keeps the version of the flag", &|| cloud.patches_segment(SDK_KEY, &crew), "put-object"),
        (
            "a flag that becomes invisible",
            &|| cloud.patches(SDK_KEY, &flag_with("plain", 5, hidden.clone())),
            "delete-object",
        ),
        ("a flag that is visible again", &|| cloud.patches(SDK_KEY, &flag("plain", 6)), "put-object"),
        ("a deleted flag", &|| cloud.deletes(SDK_KEY, "/flags/plain", 7), "delete-object"),
    ];
    for (what, change, event) in changes {
        change();
        let object = sdk.receives_event(event).await;
        assert_eq!(object["kind"], "flag-eval", "V017: {what}");
        objects.retain(|it| it["key"] != object["key"]);
        if event == "put-object" {
            objects.push(object);
        }
        let end = sdk.receives_event("payload-transferred").await;
        let (state, _, mut polled) = transfer(&gateway.answers(&browser_poll("")).await);
        let by_key = |all: &mut Vec<Value>| all.sort_by_key(|it| it["key"].to_string());
        by_key(&mut polled);
        by_key(&mut objects);
        assert_eq!((&end["state"], &objects), (&json!(state), &polled), "V017: {what}");
        assert_eq!(intent_code(&gateway, &browser_poll(&format!("&basis={state}"))).await, "none", "V017: {what}");
    }
    // A context that is too large to be kept receives pings.
    let large = format!(r#"{{"kind":"user","key":"a","note":"{}"}}"#, "x".repeat(40_000));
    let call =
        Call::new("POST", "/sdk/stream/eval").key(MOBILE_KEY).header("Content-Type", "application/json").body(large);
    gateway.opens_with(&call).await.receives_ping().await;
}
