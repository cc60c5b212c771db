//! Bad versions of plugins in the real program: they return to the version before, and stay away.
//!
//! Acceptance test 4 of the plugin system.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use super::folder::{Prepared, plugins, row, setup, status_where};
use super::put;
use crate::program::{Program, Signal};
use crate::running::SDK_KEY;

const REQUIRED: &str = "[[bind]]\nhook = \"request-auth\"";

fn gate(version: &str, fragment: &str) -> Vec<u8> {
    Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment).component().expect("a component")
}

fn runs(status: &Value, version: &str) -> bool {
    row(status, "gate")["active"]["version"] == version
}

async fn status_of_flags(program: &Program) -> u16 {
    program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status
}

#[tokio::test]
async fn a_bad_version_returns_under_load_and_stays_away_after_a_crash() {
    let prepared = Prepared::new(setup()).await;
    put(&prepared.plugins, "gate.toml", REQUIRED);
    put(&prepared.plugins, "gate.wasm", gate("1.0.0", guests::ALLOW));
    let program = prepared.start().await;
    assert_eq!(status_of_flags(&program).await, 200);
    put(&prepared.plugins, "gate.wasm", gate("2.0.0", guests::TRAP));
    status_where(&program, "version 2.0.0", |status| runs(status, "2.0.0")).await;
    let began = SystemTime::now();
    let mut calls = 0;
    within("the version before", async {
        while !runs(&plugins(&program).await, "1.0.0") {
            status_of_flags(&program).await;
            calls += 1;
        }
    })
    .await;
    let took = began.elapsed().expect("a clock that runs forwards");
    assert!(took < Duration::from_secs(10) && calls < 1_000, "{took:?}, {calls} calls");
    within("200", async { while status_of_flags(&program).await != 200 {} }).await;
    let refused = row(&plugins(&program).await, "gate")["refused"].clone();
    assert_eq!((&refused["code"], &refused["class"]), (&"S02".into(), &"rolled-back".into()));
    let metrics = program.operator_gets("/metrics").await;
    let metrics = metrics.text();
    assert!(metrics.contains("yardarm_plugin_rollbacks_total{plugin=\"gate\",reason=\"traps\"} 1\n"), "{metrics}");
    // The record of it has been written by then.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    program.signal(Signal::KILL);
    program.ends().await;

    let program = prepared.start().await;
    let status = status_where(&program, "version 1.0.0", |status| runs(status, "1.0.0")).await;
    assert_eq!(row(&status, "gate")["refused"]["code"], "S02");
    for _ in 0..20 {
        assert_eq!(status_of_flags(&program).await, 200);
    }
    // A fix is taken as soon as it is there.
    put(&prepared.plugins, "gate.wasm", gate("3.0.0", guests::ALLOW));
    let status = status_where(&program, "version 3.0.0", |status| runs(status, "3.0.0")).await;
    assert_eq!(row(&status, "gate")["refused"], Value::Null);
}
