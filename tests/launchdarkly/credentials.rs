//! L022 to L037: which credentials are accepted.

use serde_json::json;
use yardarm_testkit::Call;

use crate::expected::{TEXT_C, TEXT_D, empty, json, some_json, text};
use crate::flags::{by_key, data, flag, some_data};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};

#[tokio::test]
async fn a_key_is_accepted_on_the_routes_of_its_kind_only() {
    let gateway = Setup::with(some_data()).start().await;
    let flags = |key: &str| Call::get("/sdk/flags").key(key);
    let unknown = text(401, TEXT_C);
    let missing = empty(401);
    for (row, call, expected) in [
        ("L022", flags("sdk-unknown"), &unknown),
        ("L023", Call::get("/sdk/flags"), &missing),
        ("L023", flags(""), &missing),
        ("L026", flags(&format!("Bearer {SDK_KEY}")), &missing),
        ("L026: `API_KEY`", flags(&format!("API_KEY {SDK_KEY}")), &missing),
        ("L026: a word behind the key", flags(&format!("{SDK_KEY} x")), &missing),
        ("L024: nothing behind it", flags("api_key"), &unknown),
        ("L022: case counts", flags(&SDK_KEY.to_uppercase()), &unknown),
        ("L027", Call::get("/all").key(MOBILE_KEY), &unknown),
        ("L028", Call::get("/mping").key(SDK_KEY), &unknown),
        ("L029", Call::get("/all").key(ENV_ID), &unknown),
        ("L030", Call::get(format!("/all?authorization={SDK_KEY}")), &missing),
        ("L030", Call::get(format!("/all?auth={SDK_KEY}")), &missing),
        ("L036", Call::get("/sdk/evalx/contexts/!!!").key("sdk-unknown"), &unknown),
        ("L022: the first header counts", Call::get("/sdk/flags").key("sdk-unknown").key(SDK_KEY), &unknown),
    ] {
        gateway.answers_as(row, call, expected.clone()).await;
    }
}

#[tokio::test]
async fn the_old_prefix_is_still_understood() {
    let gateway = Setup::with(some_data()).start().await;
    let plain = gateway.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await;
    assert_eq!(plain.status, 200);
    for key in [format!("api_key {SDK_KEY}"), format!("api_key   {SDK_KEY}"), format!("  {SDK_KEY}  ")] {
        assert_eq!(gateway.answers(&Call::get("/sdk/flags").key(&key)).await, plain, "L024: {key:?}");
    }
    gateway.opens("/mping", &format!("api_key {MOBILE_KEY}")).await.receives_ping().await; // L025
}

#[tokio::test]
async fn browsers_are_known_by_the_id_in_their_path() {
    let gateway = Setup::with(some_data()).events().start().await;
    let unknown = |methods: &str| text(404, TEXT_D).cors_methods(methods);
    for (row, call, methods) in [
        ("L031", Call::get("/ping/unknown"), "GET,OPTIONS"),
        ("L031", Call::get(format!("/sdk/evalx/unknown/contexts/{CTX}")), "GET,OPTIONS"),
        ("L031", Call::get("/sdk/goals/unknown"), "GET,OPTIONS"),
        ("L031", Call::options("/ping/unknown"), "GET,OPTIONS"),
        ("L032", Call::post("/events/bulk/unknown", "[]"), "POST,OPTIONS"),
        ("L214", Call::get("/a/unknown.gif"), "GET,OPTIONS"),
    ] {
        gateway.answers_as(row, call, unknown(methods)).await;
    }
    let path = format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}");
    let expected = some_json(200).cors("*", "GET,OPTIONS");
    gateway.answers_as("L035", Call::get(path).key("nonsense, really"), expected).await;
}

#[tokio::test]
async fn an_environment_without_a_credential_has_no_such_callers() {
    let only_server = json!({"name": "server only", "sdk_key": SDK_KEY});
    let gateway = Setup::with(some_data()).environments([only_server]).start().await;
    gateway.answers_as("L033", Call::get("/mping").key(MOBILE_KEY), text(401, TEXT_C)).await;
    gateway.answers_as("L033", Call::get("/mping").key(SDK_KEY), text(401, TEXT_C)).await;
    let expected = text(404, TEXT_D).cors_methods("GET,OPTIONS");
    gateway.answers_as("L034", Call::get(format!("/ping/{ENV_ID}")), expected).await;
}

#[tokio::test]
async fn each_key_sees_its_own_environment() {
    // L037
    let environments = [json!({"name": "one", "sdk_key": "sdk-1"}), json!({"name": "two", "sdk_key": "sdk-2"})];
    let setup = Setup::new().environments(environments);
    let setup = setup.data("sdk-1", data([flag("one", 1)], [])).data("sdk-2", data([flag("two", 2)], []));
    let gateway = setup.start().await;
    for (key, flag) in [("sdk-1", flag("one", 1)), ("sdk-2", flag("two", 2))] {
        let answer = gateway.answers(&Call::get("/sdk/flags").key(key)).await;
        assert_eq!(answer.json(), by_key([flag]), "L037: {key}");
    }
    gateway.answers_as("L037", Call::get("/sdk/flags/one").key("sdk-2"), empty(404)).await;
    let flags = gateway.answers(&Call::get("/sdk/flags/two").key("sdk-2")).await;
    json(200, flag("two", 2)).with("etag: relay-2").compare("L037", &flags);
}
