//! The start of the real program with plugins: listeners come first, readiness waits for required plugins only.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use super::folder::{Prepared, plugins, row, setup};
use super::put;
use crate::program::Program;
use crate::running::SDK_KEY;

/// A plugin that loops in `init` until that is given up.
fn slow(name: &str, hook: GuestHook, fragment: &str) -> Vec<u8> {
    let guest = Guest::new(name).init("(loop $forever (br $forever)) (unreachable)");
    guest.hook(hook, fragment).component().expect("a component")
}

#[tokio::test]
async fn the_gateway_serves_while_plugins_are_loaded() {
    let prepared = Prepared::new(setup()).await;
    put(&prepared.plugins, "optional.wasm", slow("optional", GuestHook::EventFilter, guests::KEEP));
    let began = Instant::now();
    let program = Program::start(prepared.dir.path()).await;
    assert_eq!(program.operator_gets("/live").await.status, 200);
    within("readiness without the optional plugin", async {
        while program.operator_gets("/ready").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    let status = plugins(&program).await;
    let state = row(&status, "optional")["state"].clone();
    assert!(state == "staging" || state == "waiting" || state.is_null(), "{status:#}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test]
async fn readiness_waits_for_a_required_plugin_and_its_environments_fail_closed() {
    let prepared = Prepared::new(setup()).await;
    let gate = Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().expect("a component");
    put(&prepared.plugins, "gate.toml", "[[bind]]\nhook = \"request-auth\"");
    put(&prepared.plugins, "gate.wasm", slow("gate", GuestHook::RequestAuth, guests::ALLOW));
    let program = Program::start(prepared.dir.path()).await;
    assert_eq!(program.operator_gets("/live").await.status, 200);
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 503);
    let ready = program.operator_gets("/ready").await;
    assert!(ready.status == 503 && ready.text().contains("waiting for: required plugin `gate`"), "{ready:?}");
    // A version that loads overtakes the one that does not.
    put(&prepared.plugins, "gate.wasm", gate);
    program.wait_until_ready().await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    assert_eq!(row(&plugins(&program).await, "gate")["state"], "active");
}
