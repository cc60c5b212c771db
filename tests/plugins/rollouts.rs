//! A gradual rollout in the real program: seen by operators, unseen by clients, and the same after a crash.

use yardarm_testkit::Call;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::folder::{Prepared, row, status_where};
use super::manual::{TOKEN, runs, with_token};
use super::put;
use crate::program::{Program, Signal};
use crate::running::SDK_KEY;

const SHADOW: &str = "[plugin]\nrollout = \"shadow\"\n[[bind]]\nhook = \"request-auth\"";

fn gate(version: &str, fragment: &str) -> Vec<u8> {
    Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment).component().expect("a component")
}

async fn status_of_flags(program: &Program) -> u16 {
    program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status
}

async fn wait_for_shadow(program: &Program) {
    let in_shadow =
        |status: &serde_json::Value| runs(status, "1.0.0") && row(status, "gate")["rollout"]["version"] == "2.0.0";
    status_where(program, "version 2.0.0 in shadow", in_shadow).await;
}

#[tokio::test]
async fn a_version_in_shadow_is_compared_survives_a_crash_and_is_promoted() {
    let prepared = Prepared::new(with_token()).await;
    put(&prepared.plugins, "gate.toml", SHADOW);
    put(&prepared.plugins, "gate.wasm", gate("1.0.0", guests::ALLOW));
    let program = prepared.start().await;
    put(&prepared.plugins, "gate.wasm", gate("2.0.0", guests::FORBID));
    wait_for_shadow(&program).await;
    for _ in 0..5 {
        assert_eq!(status_of_flags(&program).await, 200);
    }
    status_where(&program, "five comparisons", |status| row(status, "gate")["rollout"]["shadow"]["different"] == 5)
        .await;
    let metrics = program.operator_gets("/metrics").await;
    for line in [
        "yardarm_plugin_shadow_calls_total{plugin=\"gate\",result=\"different\"} 5\n",
        "yardarm_plugin_shadow_differences_total{field=\"decision\",plugin=\"gate\"} 5\n",
    ] {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
    // The record of the running version has been written by then.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    program.signal(Signal::KILL);
    program.ends().await;

    let program = prepared.start().await;
    wait_for_shadow(&program).await;
    assert_eq!(status_of_flags(&program).await, 200);
    let promote = Call::post("/api/plugins/gate/promote", "").key(&format!("Bearer {TOKEN}"));
    let answer = promote.to(program.admin).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    status_where(&program, "version 2.0.0", |status| runs(status, "2.0.0")).await;
    assert_eq!(status_of_flags(&program).await, 403);
}
