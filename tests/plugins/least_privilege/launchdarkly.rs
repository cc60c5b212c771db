//! LaunchDarkly: server-side, mobile and browser SDKs.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use yardarm_testkit::{Call, until, within};

use super::emitted::{Canary, Emitted, Place, shown};
use super::{
    ADDRESS, ATTRIBUTE, COMMON, CONTEXT_KEY, COOKIE, EVENT, FLAG, HEADER, PRINCIPAL, QUERY, all_grants, start,
};
use crate::flags::{data, flag_with};
use crate::plugins::folder::Prepared;
use crate::program::Program;
use crate::running::{ENV_ID, Setup};

const SDK_KEY: &str = "sdk-canary0-0000-4000-8000-000000000001";
const MOBILE_KEY: &str = "mob-canary0-0000-4000-8000-000000000002";

fn canaries() -> Vec<Canary> {
    let own: [Canary; 5] = [
        (SDK_KEY, &[Place::Upstream]),
        (MOBILE_KEY, &[Place::Upstream]),
        (CONTEXT_KEY, &[]),
        (ATTRIBUTE, &[]),
        (EVENT, &[Place::Upstream]),
    ];
    COMMON.into_iter().chain(own).collect()
}

/// Runs the gateway with the plugins, sends requests of every kind, and returns what was emitted.
async fn emitted(grants: &str) -> Emitted {
    let flag = |version| flag_with("plain", version, json!({"variations": [FLAG, "other"]}));
    let environment = json!({"name": "main", "sdk_key": SDK_KEY, "mobile_key": MOBILE_KEY, "env_id": ENV_ID});
    let setup = Setup::new().environments([environment]).data(SDK_KEY, data([flag(3)], []));
    let setup = setup.events().set("log.level", "trace").set("server.trusted_proxies", json!(["127.0.0.0/8"]));
    let prepared = Prepared::new(setup.set("plugins.secrets_dir", "secrets")).await;
    let root = prepared.dir.path();
    let program = start(root, grants).await;
    let mut emitted = Emitted::default();
    emitted.add(Place::Responses, responses(&program).await);
    let mut stream = program.opens("/all", SDK_KEY).await;
    stream.receives_event("put").await;
    prepared.cloud.patches(SDK_KEY, &flag(4));
    within("the change", async {
        while program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.json()["plain"]["version"] != 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    until("the events", || prepared.cloud.posts("/bulk").iter().any(|post| post.json().to_string().contains(EVENT)))
        .await;
    emitted.end(program, root).await;
    emitted.add_upstream(prepared.cloud.requests());
    emitted
}

/// Sends requests of every kind of SDK, with canaries in all that an SDK sends; returns the responses.
async fn responses(program: &Program) -> Vec<String> {
    let context = json!({"kind": "user", "key": CONTEXT_KEY, "email": ATTRIBUTE}).to_string();
    let encoded = URL_SAFE_NO_PAD.encode(&context);
    let events = json!([{"kind": "custom", "key": "order", "creationDate": 1, "data": EVENT, "context": {"kind": "user", "key": "a"}}]);
    let events = events.to_string();
    let post = |path: String| Call::post(path, events.clone()).header("X-LaunchDarkly-Event-Schema", "4");
    // The log of a plugin is limited, so each kind of call is among the first.
    let calls = [
        post(format!("/bulk?x={QUERY}")).key(SDK_KEY),
        post("/mobile/events/bulk".to_owned()).key(MOBILE_KEY),
        post(format!("/events/bulk/{ENV_ID}")),
        Call::get(format!("/sdk/flags?x={QUERY}")).key(SDK_KEY),
        Call::get(format!("/sdk/evalx/contexts/{encoded}?x={QUERY}")).key(SDK_KEY),
        Call::get(format!("/msdk/evalx/contexts/{encoded}?x={QUERY}")).key(MOBILE_KEY),
        Call::report("/msdk/evalx/context", context).key(MOBILE_KEY),
        Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{encoded}?x={QUERY}")),
        Call::get("/status"),
    ];
    let mut responses = Vec::new();
    for call in calls {
        let call = call.header("x-canary", HEADER).header("cookie", COOKIE).header("x-forwarded-for", ADDRESS);
        let answer = program.answers(&call).await;
        assert!(matches!(answer.status, 200 | 202), "{call}: {}", answer.status);
        responses.push(shown(&answer));
    }
    responses
}

#[tokio::test]
async fn without_grants_no_canary_is_anywhere_it_does_not_belong() {
    let emitted = emitted("").await;
    emitted.assert_in_place(&canaries());
    // They are where they belong, so the search is one of what was sent.
    for (canary, place) in [(EVENT, Place::Upstream), (FLAG, Place::Responses), (SDK_KEY, Place::Upstream)] {
        assert!(emitted.find(canary).contains_key(&place), "{canary} {place:?}");
    }
}

/// The counterpart: with the grants, all of it is in the log of the plugin. What belongs to other plugins and to the process is
/// not, because there is no grant for it.
#[tokio::test]
async fn with_grants_the_same_plugin_obtains_what_they_give() {
    let emitted = emitted(&all_grants()).await;
    let read = [HEADER, COOKIE, SDK_KEY, MOBILE_KEY, ADDRESS, QUERY, CONTEXT_KEY, ATTRIBUTE, EVENT, FLAG, PRINCIPAL];
    emitted.assert_read(&canaries(), &read);
}
