//! The sample plugins behave as documented, from the moment their files are present.

use serde_json::{Value, json};
use yardarm_testkit::{Call, RedisServer, StreamItem, until, within};

use super::{Plugged, arrived, gate, put, sample};
use crate::running::{CTX, ENV_ID, MOBILE_KEY, SDK_KEY, Setup};
use crate::sdk::Sdk;
use crate::sdks::{data, flag};

const OVERRIDE: &str = r#"
    [plugin]
    name = "flag-override"
    grants = ["flag-data"]
    [plugin.config.environments."*"]
    hide = ["segmented"]
    [plugin.config.environments."*".pin]
    greeting = "pinned"
    [[bind]]
    hook = "HOOK"
"#;

async fn greeting(plugged: &Plugged) -> Value {
    let call = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    plugged.gateway.answers(&call).await.json()["greeting"]["value"].clone()
}

async fn greets(plugged: &Plugged, text: &str) {
    within(&format!("the greeting to be `{text}`"), async {
        while greeting(plugged).await != text {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_plugin_is_loaded_updated_kept_and_removed_with_its_files() {
    let plugged = Plugged::start(Setup::with(data()), |_| ()).await;
    assert_eq!(greeting(&plugged).await, "hello");

    plugged.drops("flag-override.toml", OVERRIDE.replace("HOOK", "evaluation-transform"));
    plugged.drops("flag-override.wasm", sample("flag-override"));
    greets(&plugged, "pinned").await;
    let all = plugged.gateway.answers(&Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY)).await.json();
    assert_eq!(all.get("segmented"), None, "hidden");
    assert!(all.get("rolled").is_some(), "left alone");

    // A new configuration is a new generation.
    plugged.drops("flag-override.toml", OVERRIDE.replace("HOOK", "evaluation-transform").replace("pinned", "edited"));
    greets(&plugged, "edited").await;

    // A broken version leaves the previous one running, with a reason that names the fix.
    plugged.drops("flag-override.wasm", "not a component");
    let row = plugged.plugin_where("flag-override", "refused", |row| row["refused"]["code"] == "L01").await;
    assert_eq!(row["state"], "active", "{row}");
    assert_eq!(greeting(&plugged).await, "edited");

    plugged.removes("flag-override.toml");
    plugged.removes("flag-override.wasm");
    greets(&plugged, "hello").await;
}

#[tokio::test]
async fn evaluated_streams_contain_edits_of_plugins() {
    let setup = Setup::with(data()).set("launchdarkly.client_streams", "evaluated");
    let plugged = Plugged::start(setup, |_| ()).await;
    let upstream = &plugged.gateway.upstream;
    let poll = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"));
    let polled = async || plugged.gateway.answers(&poll).await.json();
    let mut sdk = plugged.gateway.opens_with(&Call::get(format!("/eval/{ENV_ID}/{CTX}"))).await;
    assert_eq!(sdk.receives_event("put").await["greeting"]["value"], "hello");

    // A plugin changes values and no versions, so the full data is sent again.
    let required = OVERRIDE.replace("HOOK", "evaluation-transform") + "required = true\n";
    plugged.drops("flag-override.toml", required);
    plugged.drops("flag-override.wasm", sample("flag-override"));
    let mut has = sdk.receives_event("put").await;
    assert_eq!((&has["greeting"]["value"], has.get("segmented")), (&json!("pinned"), None));
    assert_eq!(has, polled().await);

    // A hidden flag is not sent, and a pinned flag stays pinned in a newer version.
    let mut segmented = flag("segmented", 2, &json!("out"));
    segmented["rules"] = json!([]);
    upstream.patches(SDK_KEY, &segmented);
    upstream.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    let mut texts = receives_until(&mut sdk, &mut has, 2, &polled).await;
    assert!(texts.iter().all(|it| it.contains("pinned") && !it.contains("segmented")), "{texts:?}");
    assert_eq!(has["greeting"]["version"], 2);

    // A plugin that fails changes nothing on the stream; polls are answered with 503.
    plugged.removes("flag-override.wasm");
    within("503", async {
        while plugged.gateway.answers(&poll).await.status != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    upstream.patches(SDK_KEY, &flag("greeting", 3, &json!("good evening")));
    let mut server = plugged.gateway.opens("/all", SDK_KEY).await;
    while server.receives_event("put").await["data"]["flags"]["greeting"]["version"] != 3 {
        server = plugged.gateway.opens("/all", SDK_KEY).await;
    }
    plugged.drops("flag-override.wasm", sample("flag-override"));
    texts = receives_until(&mut sdk, &mut has, 3, &polled).await;
    assert!(texts.iter().all(|it| it.contains("pinned") && !it.contains("segmented")), "{texts:?}");

    // Once it is neither required nor present, upstream's data is served.
    plugged.drops("flag-override.toml", OVERRIDE.replace("HOOK", "evaluation-transform"));
    plugged.removes("flag-override.wasm");
    within("the plugin to be gone", async {
        loop {
            let answer = plugged.gateway.answers(&poll).await;
            if answer.status == 200 && answer.json()["greeting"]["value"] == "good evening" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    while has["segmented"].is_null() || has != polled().await {
        receives_one(&mut sdk, &mut has).await;
    }
    assert_eq!((&has["greeting"]["value"], &has["segmented"]["version"]), (&json!("good evening"), &json!(2)));
}

/// Reads until the greeting has this version and the received data equals the polled results; returns the names of the
/// received events.
async fn receives_until(sdk: &mut Sdk, has: &mut Value, version: i64, polled: &impl AsyncFn() -> Value) -> Vec<String> {
    let mut texts = Vec::new();
    while has["greeting"]["version"] != version || *has != polled().await {
        texts.push(receives_one(sdk, has).await);
    }
    texts
}

async fn receives_one(sdk: &mut Sdk, has: &mut Value) -> String {
    let received = within("more", sdk.next()).await;
    let StreamItem::Event { name, data } = received else { panic!("{received:?}") };
    let mut value: Value = serde_json::from_str(&data).expect("JSON");
    match name.as_str() {
        "put" => *has = value,
        "patch" => {
            let key = value.as_object_mut().expect("an object").remove("key").expect("a key");
            has[key.as_str().expect("text")] = value;
        }
        other => panic!("`{other}`: {data}"),
    }
    data
}

#[tokio::test]
async fn a_payload_plugin_changes_what_server_side_sdks_see() {
    let plugged = Plugged::start(Setup::with(data()), |_| ()).await;
    let upstream = &plugged.gateway.upstream;
    let mut sdk = plugged.gateway.opens("/all", SDK_KEY).await;
    let put = sdk.receives_event("put").await;
    assert!(put["data"]["flags"].get("segmented").is_some());

    plugged.drops("flag-override.toml", OVERRIDE.replace("HOOK", "payload-transform"));
    plugged.drops("flag-override.wasm", sample("flag-override"));
    let put = sdk.receives_event("put").await;
    assert_eq!(put["data"]["flags"].get("segmented"), None, "hidden");
    assert_eq!(put["data"]["flags"]["greeting"]["variations"], json!(["other", "hello", "pinned"]));
    assert_eq!(put["data"]["flags"]["greeting"]["version"], 1);

    // A change of a pinned flag is sent with the plugin's value and upstream's version.
    upstream.patches(SDK_KEY, &flag("greeting", 2, &json!("good morning")));
    let patch = sdk.receives_event("patch").await;
    assert_eq!(patch["data"]["variations"], json!(["other", "good morning", "pinned"]));
    assert_eq!(patch["data"]["version"], 2);

    // Without the plugin, upstream's data is served.
    plugged.removes("flag-override.toml");
    plugged.removes("flag-override.wasm");
    let put = sdk.receives_event("put").await;
    assert_eq!(put["data"]["flags"]["greeting"], flag("greeting", 2, &json!("good morning")));
}

#[tokio::test]
async fn the_database_holds_upstream_data_without_edits_of_plugins() {
    let Some(redis) = RedisServer::start() else { return };
    let setup = Setup::with(data()).set("launchdarkly.redis.url", redis.url());
    let plugged = Plugged::start(setup, |folder| {
        put(folder, "flag-override.toml", OVERRIDE.replace("HOOK", "payload-transform"));
        put(folder, "flag-override.wasm", sample("flag-override"));
    })
    .await;
    let mut sdk = plugged.gateway.opens("/all", SDK_KEY).await;
    // The plugin is not required, so upstream's data may be served for a moment.
    while sdk.receives_event("put").await["data"]["flags"].get("segmented").is_some() {}
    let changed = flag("greeting", 2, &json!("good morning"));
    plugged.gateway.upstream.patches(SDK_KEY, &changed);
    let stored = |key: &str| -> Value {
        let text = redis.field("launchdarkly:features", key).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    until("the patch in Redis", || stored("greeting") == changed).await;
    assert_eq!(stored("segmented"), data()["flags"]["segmented"]);
}

#[tokio::test]
async fn a_gate_denies_with_the_status_that_each_kind_of_sdk_expects() {
    let binding = |deny_as: &str| gate(&format!("deny_as = \"{deny_as}\""));
    let plugged = Plugged::start(Setup::with(data()), |folder| {
        put(folder, "request-gate.toml", binding("unauthorized"));
        put(folder, "request-gate.wasm", sample("request-gate"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    let calls = [
        Call::get("/sdk/flags").key(SDK_KEY),
        Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}")),
    ];
    let statuses = async || {
        let mut statuses = Vec::new();
        for call in &calls {
            statuses.push(plugged.gateway.answers(call).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [401, 401, 404], "like an unknown credential");
    for call in &calls {
        let with_token = call.clone().header("x-gate-token", "open sesame");
        assert_eq!(plugged.gateway.answers(&with_token).await.status, 200);
    }
    plugged.drops("request-gate.toml", binding("forbidden"));
    within("403", async {
        while statuses().await != [403, 403, 403] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;

    // A missing required plugin is the gateway's fault: 503 with `Retry-After`, never 401 or 404.
    plugged.removes("request-gate.wasm");
    within("503", async {
        while statuses().await != [503, 503, 503] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let answer = plugged.gateway.answers(&calls[0]).await;
    assert!(answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("retry-after")), "{answer:?}");
}

#[tokio::test]
async fn open_streams_are_authorized_again_when_the_gate_changes() {
    let binding = |token: &str| {
        format!(
            "[plugin]\nname = \"request-gate\"\ngrants = [\"header:x-gate-token\"]\n[plugin.config]\ntokens = [\"{token}\"]\nsdks = [\"server\"]\n[[bind]]\nhook = \"request-auth\"\n"
        )
    };
    let plugged = Plugged::start(Setup::with(data()), |folder| {
        put(folder, "request-gate.toml", binding("old"));
        put(folder, "request-gate.wasm", sample("request-gate"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    let call = Call::get("/all").key(SDK_KEY);
    let mut old = plugged.gateway.opens_with(&call.clone().header("x-gate-token", "old")).await;
    old.receives_event("put").await;
    plugged.drops("request-gate.toml", binding("new"));
    old.receives_end().await;
    let mut new = plugged.gateway.opens_with(&call.header("x-gate-token", "new")).await;
    new.receives_event("put").await;
}

const EVENTS: &str = r#"[
    {"kind":"identify","creationDate":1,"context":{"kind":"user","key":"ada","email":"ada@example.com","plan":1.0}},
    {"kind":"click","creationDate":2,"context":{"kind":"user","key":"ada"}},
    {"kind":"custom","creationDate":3,"key":"bought","contextKeys":{"user":"ada"}}
]"#;

async fn posts_events(plugged: &Plugged) {
    let call = Call::post("/bulk", EVENTS).key(SDK_KEY).header("X-LaunchDarkly-Event-Schema", "4");
    assert_eq!(plugged.gateway.answers(&call).await.status, 202);
}

#[tokio::test]
async fn private_attributes_are_not_forwarded() {
    let plugged = Plugged::start(Setup::with(data()).events(), |folder| {
        put(
            folder,
            "event-redactor.toml",
            "[plugin]\nname = \"event-redactor\"\ngrants = [\"event-bodies\"]\n[plugin.config]\ndrop = [\"email\"]\ndrop_kinds = [\"click\"]\n[[bind]]\nhook = \"event-filter\"\n",
        );
        put(folder, "event-redactor.wasm", sample("event-redactor"));
    })
    .await;
    plugged.wait_until_active("event-redactor").await;
    posts_events(&plugged).await;
    let events = arrived(&plugged.gateway.upstream, &["identify", "custom"]).await;
    assert_eq!(events.len(), 2, "{events:?}");
    let text = json!(events).to_string();
    assert!(!text.contains("ada@example.com"), "{text}");
    let report = plugged.gateway.operator_gets("/api/environments").await.json();
    let counted = &report["environments"][0]["events"];
    assert_eq!((&counted["received"], &counted["filtered"]), (&json!(3), &json!([["event-redactor", 1]])), "{counted}");
}

#[tokio::test]
async fn no_event_is_forwarded_while_the_filter_is_unavailable() {
    let binding = "[plugin]\nname = \"event-redactor\"\ngrants = [\"event-bodies\"]\n[plugin.config]\ndrop = [\"email\"]\n[[bind]]\nhook = \"event-filter\"\n";
    let plugged =
        Plugged::start(Setup::with(data()).events(), |folder| put(folder, "event-redactor.toml", binding)).await;
    posts_events(&plugged).await;
    let pending = async || {
        plugged.gateway.operator_gets("/api/environments").await.json()["environments"][0]["events"]["pending"].clone()
    };
    within("the events to be held", async {
        while pending().await != 3 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(plugged.gateway.upstream.posts("/bulk").is_empty());
    plugged.drops("event-redactor.wasm", sample("event-redactor"));
    let events = arrived(&plugged.gateway.upstream, &["identify", "click", "custom"]).await;
    assert!(!json!(events).to_string().contains("ada@example.com"));
    until("nothing is pending", || !plugged.gateway.upstream.posts("/bulk").is_empty()).await;
}
