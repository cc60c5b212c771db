//! Plugins that misbehave affect only the request they were called for, never the gateway.
//!
//! Acceptance test 1 of the plugin system.

use yardarm_testkit::guests::{self as fragments, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use super::{Plugged, put};
use crate::running::{SDK_KEY, Setup};
use crate::sdks::data;

const OTHER_KEY: &str = "sdk-00000000-1111-2222-3333-444444444499";

/// Starts a gateway with two environments; a guest is bound to `main`.
async fn with_guest(name: &str, fragment: &str) -> Plugged {
    let component = Guest::new(name).hook(GuestHook::RequestAuth, fragment).component().expect("a component");
    let binding =
        format!("[plugin]\nname = \"{name}\"\n[[bind]]\nhook = \"request-auth\"\nenvironments = [\"main\"]\n");
    let other = serde_json::json!({"name": "other", "sdk_key": OTHER_KEY});
    let setup = Setup::with(data()).data(OTHER_KEY, data()).environments([crate::running::main_environment(), other]);
    let plugged = Plugged::start(setup, |folder| {
        put(folder, &format!("{name}.toml"), binding);
        put(folder, &format!("{name}.wasm"), component);
    })
    .await;
    plugged.wait_until_active(name).await;
    plugged
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ends_in_its_class_and_affects_no_other() {
    for (fragment, class) in [
        (fragments::TRAP, "trap"),
        (fragments::SPIN, "deadline"),
        (fragments::SPIN_IN_HOST, "deadline"),
        (fragments::GROW, "memory-limit"),
        (fragments::RECURSE, "trap"),
        (fragments::TEMPORARY, "guest-error"),
    ] {
        let plugged = with_guest("zoo", fragment).await;
        let call = Call::get("/sdk/flags").key(SDK_KEY);
        let other = Call::get("/sdk/flags").key(OTHER_KEY);
        for _ in 0..3 {
            let (hurt, fine) = tokio::join!(plugged.gateway.answers(&call), plugged.gateway.answers(&other));
            assert_eq!((hurt.status, fine.status), (503, 200), "{class}");
        }
        let metrics = plugged.gateway.operator_gets("/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let counted = format!("yardarm_plugin_calls_total{{hook=\"request-auth\",outcome=\"{class}\",plugin=\"zoo\"}}");
        assert!(metrics.contains(&counted), "{counted} is missing:\n{metrics}");
        plugged.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_failures_it_is_not_called_for_a_while() {
    let plugged = with_guest("zoo", fragments::TRAP).await;
    let call = Call::get("/sdk/flags").key(SDK_KEY);
    for _ in 0..8 {
        assert_eq!(plugged.gateway.answers(&call).await.status, 503);
    }
    let row = plugged.plugin("zoo").await;
    let calls = row["active"]["calls"][0]["outcomes"].as_array().cloned().unwrap_or_default();
    let count = |class: &str| calls.iter().find(|it| it[0] == class).and_then(|it| it[1].as_u64()).unwrap_or(0);
    assert!(count("trap") >= 5 && count("breaker-open") >= 1, "{calls:?}");
}

#[tokio::test]
async fn a_fixed_version_recovers() {
    let plugged = with_guest("zoo", fragments::TRAP).await;
    let call = Call::get("/sdk/flags").key(SDK_KEY);
    assert_eq!(plugged.gateway.answers(&call).await.status, 503);
    let better = Guest::new("zoo").hook(GuestHook::RequestAuth, fragments::ALLOW).component().expect("a component");
    plugged.drops("zoo.wasm", better);
    within("the better version to serve", async {
        while plugged.gateway.answers(&call).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
