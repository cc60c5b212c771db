//! What fails closed while a required plugin does not run, in the real program: across crashes, with and without a data
//! folder, and how it is retired.

use std::fs;

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, within};

use super::folder::{Prepared, plugins, row, setup, status_where};
use super::put;
use crate::program::{Program, Signal};
use crate::running::SDK_KEY;

const REQUIRED: &str = "[[bind]]\nhook = \"request-auth\"";

fn gate() -> Vec<u8> {
    Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().expect("a component")
}

async fn status_of_flags(program: &Program) -> u16 {
    program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status
}

fn state(status: &Value, file: &str) -> String {
    row(status, file)["state"].as_str().unwrap_or("absent").to_owned()
}

/// Waits until the row of a plugin is in this state.
async fn wait_for(program: &Program, file: &str, expected: &str) {
    status_where(program, &format!("`{file}` to be {expected}"), |status| state(status, file) == expected).await;
}

/// Ends the program as a crash does.
async fn crash(program: Program) {
    // The last change of the state has been written by then.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    program.signal(Signal::KILL);
    program.ends().await;
}

#[tokio::test]
async fn a_stray_binding_file_never_rejects_a_request() {
    let prepared = Prepared::new(setup()).await;
    let program = prepared.start().await;
    let stray = [
        ("comment", "# for request-auth and event-filter\n[[bind]"),
        ("typo", "[[bind]]\nhook = \"request-auth\"\npriorty = 3"),
        ("orphan", REQUIRED),
    ];
    for (name, text) in stray {
        put(&prepared.plugins, &format!("{name}.toml"), text);
    }
    for (name, expected) in [("comment", "refused"), ("typo", "refused"), ("orphan", "missing")] {
        wait_for(&program, name, expected).await;
        assert_eq!(row(&plugins(&program).await, name)["fails_closed"], false, "{name}");
        assert_eq!(status_of_flags(&program).await, 200, "{name}");
    }
    for (name, _) in stray {
        fs::remove_file(prepared.plugins.join(format!("{name}.toml"))).expect("a file");
        wait_for(&program, name, "absent").await;
    }
    assert_eq!(status_of_flags(&program).await, 200);
}

#[tokio::test]
async fn the_order_of_the_readme_rejects_no_request() {
    let prepared = Prepared::new(setup()).await;
    let program = prepared.start().await;
    put(&prepared.plugins, "gate.toml", REQUIRED);
    wait_for(&program, "gate", "missing").await;
    assert_eq!(status_of_flags(&program).await, 200);
    put(&prepared.plugins, "gate.wasm", gate());
    within("the gate", async {
        while state(&plugins(&program).await, "gate") != "active" {
            assert_eq!(status_of_flags(&program).await, 200, "while it is loaded");
        }
    })
    .await;
    assert_eq!(status_of_flags(&program).await, 200);
}

#[tokio::test]
async fn a_required_plugin_that_was_active_fails_closed_until_it_is_retired() {
    let prepared = Prepared::new(setup()).await;
    put(&prepared.plugins, "gate.toml", REQUIRED);
    put(&prepared.plugins, "gate.wasm", gate());
    let program = prepared.start().await;
    assert_eq!(status_of_flags(&program).await, 200);
    crash(program).await;
    // Absence is not permission.
    for name in ["gate.wasm", "gate.toml"] {
        fs::remove_file(prepared.plugins.join(name)).expect("a file");
    }
    let program = Program::start(prepared.dir.path()).await;
    assert_eq!(status_of_flags(&program).await, 503);
    let status = plugins(&program).await;
    assert_eq!((state(&status, "gate").as_str(), &row(&status, "gate")["fails_closed"]), ("missing", &true.into()));
    let advice = row(&status, "gate")["advice"].as_str().expect("advice").to_owned();
    assert!(advice.contains("restore `gate.wasm`") && advice.contains("`gate.retired`"), "{advice}");
    assert!(program.operator_gets("/ready").await.text().contains("waiting for: required plugin `gate`"));
    // A binding file that cannot be parsed keeps the last good one in force.
    put(&prepared.plugins, "gate.toml", "[[bind]");
    wait_for(&program, "gate", "refused").await;
    assert_eq!(status_of_flags(&program).await, 503);
    put(&prepared.plugins, "gate.retired", "");
    wait_for(&program, "gate", "retired").await;
    program.wait_until_ready().await;
    assert_eq!(status_of_flags(&program).await, 200);
    crash(program).await;
    for name in ["gate.retired", "gate.toml"] {
        fs::remove_file(prepared.plugins.join(name)).expect("a file");
    }
    let program = prepared.start().await;
    assert_eq!((status_of_flags(&program).await, state(&plugins(&program).await, "gate").as_str()), (200, "absent"));
}

#[tokio::test]
async fn without_a_data_folder_what_was_active_is_known_until_the_end_of_the_process() {
    let prepared = Prepared::new(setup()).await;
    setup().set("data.dir", "").set("log.format", "json").write(&prepared.cloud.url(), prepared.dir.path());
    put(&prepared.plugins, "gate.toml", REQUIRED);
    put(&prepared.plugins, "gate.wasm", gate());
    let program = prepared.start().await;
    for name in ["gate.wasm", "gate.toml"] {
        fs::remove_file(prepared.plugins.join(name)).expect("a file");
    }
    wait_for(&program, "gate", "missing").await;
    within("503", async {
        while status_of_flags(&program).await != 503 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    program.signal(Signal::KILL);
    program.ends().await;
    let program = prepared.start().await;
    assert_eq!(status_of_flags(&program).await, 200);
    assert_eq!(state(&plugins(&program).await, "gate"), "absent");
}
