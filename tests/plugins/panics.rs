//! Injected panics of the host while it loads and calls plugins.
#![cfg(debug_assertions)]

use yardarm_testkit::{Call, until};

use super::{Plugged, gate, put, sample};
use crate::flags::some_data;
use crate::running::{SDK_KEY, Setup};

#[tokio::test]
async fn a_panic_during_a_call_triggers_the_failure_policy() {
    let plugged = Plugged::start(Setup::with(some_data()), |folder| {
        put(folder, "request-gate.toml", gate(""));
        put(folder, "request-gate.wasm", sample("request-gate"));
    })
    .await;
    plugged.wait_until_active("request-gate").await;
    let call = Call::get("/sdk/flags").key(SDK_KEY).header("x-gate-token", "open sesame");
    assert_eq!(plugged.gateway.answers(&call).await.status, 200);
    plugged.gateway.supervisor.faults().arm("plugin call");
    assert_eq!(plugged.gateway.answers(&call).await.status, 503, "required, so never a bypass");
    assert!(plugged.gateway.supervisor.faults().are_over());
    assert_eq!(plugged.gateway.answers(&call).await.status, 200, "nothing is held by the call that panicked");
    plugged.gateway.stop().await;
}

#[tokio::test]
async fn a_plugin_is_loaded_although_the_loader_panicked() {
    for task in ["plugin loader", "plugin file events", "plugin folder reader", "plugin folder"] {
        let plugged = Plugged::start(Setup::with(some_data()), |_| ()).await;
        let faults = plugged.gateway.supervisor.faults().clone();
        faults.arm(task);
        put(plugged.gateway.plugins(), "event-redactor.wasm", sample("event-redactor"));
        until(task, || faults.are_over()).await;
        plugged.wait_until_active("event-redactor").await;
        plugged.gateway.stop().await;
    }
}

#[tokio::test]
async fn a_plugin_that_makes_its_inspection_panic_is_rejected_and_others_are_loaded() {
    let plugged = Plugged::start(Setup::with(some_data()), |_| ()).await;
    let faults = plugged.gateway.supervisor.faults().clone();
    faults.arm("plugin inspection");
    put(plugged.gateway.plugins(), "event-redactor.wasm", sample("event-redactor"));
    let is_refused = |row: &serde_json::Value| row["state"] == "refused";
    plugged.plugin_where("event-redactor", "refused", is_refused).await;
    put(plugged.gateway.plugins(), "request-gate.toml", gate(""));
    put(plugged.gateway.plugins(), "request-gate.wasm", sample("request-gate"));
    plugged.wait_until_active("request-gate").await;
    plugged.gateway.stop().await;
}
