//! Resolvers choose the environment of requests.

use serde_json::json;
use yardarm_testkit::Call;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::Plugged;
use crate::running::{MOBILE_KEY, SDK_KEY, Setup, main_environment};
use crate::sdks::{data, flag};

/// SDK key of the environment `tenant`.
const TENANT_KEY: &str = "sdk-00000000-0000-4000-8000-00000000beef";

const TENANTS: &str = r#"
    [plugin]
    name = "tenants"
    grants = ["query"]
    [[bind]]
    hook = "route-resolver"
"#;

fn setup() -> Setup {
    let mut of_tenant = data();
    of_tenant["flags"] = json!({"tenant-only": flag("tenant-only", 1, &json!(true))});
    let tenant = json!({"name": "tenant", "sdk_key": TENANT_KEY});
    Setup::with(data()).data(TENANT_KEY, of_tenant).environments([main_environment(), tenant])
}

/// Starts a gateway with a plugin for which the query is the name of the environment.
async fn plugged(setup: Setup) -> Plugged {
    let tenants = Guest::new("tenants").hook(GuestHook::RouteResolver, guests::RESOLVE_QUERY).component().unwrap();
    let plugged = Plugged::start(setup, |folder| {
        super::put(folder, "tenants.toml", TENANTS);
        super::put(folder, "tenants.wasm", tenants);
    })
    .await;
    plugged.wait_until_active("tenants").await;
    plugged
}

async fn status(plugged: &Plugged, call: Call) -> u16 {
    plugged.gateway.answers(&call).await.status
}

#[tokio::test]
async fn a_chosen_environment_still_needs_its_credential() {
    let plugged = plugged(setup()).await;
    for (path, key, expected) in [
        ("/sdk/flags", SDK_KEY, 200),
        ("/sdk/flags?main", SDK_KEY, 200),
        ("/sdk/flags?tenant", TENANT_KEY, 200),
        ("/sdk/flags?tenant", SDK_KEY, 401),
        ("/sdk/flags?main", TENANT_KEY, 401),
        ("/sdk/flags?nowhere", SDK_KEY, 401),
        // A mobile key does not open a server's route, whatever the plugin says.
        ("/sdk/flags?main", MOBILE_KEY, 401),
    ] {
        assert_eq!(status(&plugged, Call::get(path).key(key)).await, expected, "{path} {key}");
    }
    assert_eq!(status(&plugged, Call::get("/sdk/flags?tenant")).await, 401, "without a credential");
}

#[tokio::test]
async fn request_plugins_decide_alone_where_the_operator_says_so() {
    let plugged = plugged(setup().set("plugins.delegated_auth", json!(["tenant", "gone"]))).await;
    let call = || Call::get("/sdk/flags?tenant");
    assert_eq!(status(&plugged, call()).await, 401, "no request plugin is bound");

    plugged.drops("gate.toml", "[plugin]\nname = \"gate\"\n[[bind]]\nhook = \"request-auth\"\nrequired = false\n");
    plugged.drops("gate.wasm", Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().unwrap());
    plugged.wait_until_active("gate").await;
    let answer = plugged.gateway.answers(&call()).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json().get("tenant-only").is_some());
    assert_eq!(status(&plugged, call().key("not a key")).await, 200);
    assert_eq!(status(&plugged, Call::get("/sdk/flags?main")).await, 401, "not delegated");
    assert_eq!(status(&plugged, Call::get("/sdk/flags?gone")).await, 503, "no such environment: a fault of the plugin");

    let mut sdk = plugged.gateway.opens_with(&Call::get("/all?tenant")).await;
    assert!(sdk.receives_event("put").await["data"]["flags"].get("tenant-only").is_some());
    // Without the plugin nothing can admit the stream again.
    plugged.removes("gate.wasm");
    plugged.removes("gate.toml");
    sdk.receives_end().await;
    assert_eq!(status(&plugged, call()).await, 401);
}
