//! Every state that `/api/plugins` shows is found by `yardarm check --json`, in the same words.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::folder::{Prepared, mode, plugins, setup, status_where};
use super::put;
use crate::program::{self, Program, Signal};

fn guest(name: &str) -> Vec<u8> {
    Guest::new(name).hook(GuestHook::EventFilter, guests::KEEP).component().expect("a component")
}

/// Returns file, state, code, class and text of every row, and the same of sets.
fn rows(status: &Value) -> Value {
    let rows = |key: &str| -> Vec<Value> {
        let all = status[key].as_array().expect("rows");
        let row = |it: &Value| {
            let refused = &it["refused"];
            json!([
                it["file"],
                it["state"],
                refused["code"],
                refused["class"],
                refused["text"],
                it["advice"],
                it["fails_closed"]
            ])
        };
        all.iter().map(row).collect()
    };
    json!({"trouble": status["trouble"]["text"], "plugins": rows("plugins"), "sets": rows("sets")})
}

fn checked(prepared: &Prepared) -> (Value, Option<i32>) {
    let output = program::run(prepared.dir.path(), &["check", "--json"]);
    let document = serde_json::from_slice(&output.stdout);
    (document.unwrap_or_else(|error| panic!("{error}: {output:?}")), output.status.code())
}

fn fill(prepared: &Prepared) {
    let folder = &prepared.plugins;
    let bind = "[[bind]]\nhook = \"event-filter\"";
    put(folder, "active.wasm", guest("active"));
    put(folder, "active.toml", bind);
    put(folder, "unbound.wasm", guest("unbound"));
    put(folder, "orphan.toml", "[[bind]]\nhook = \"event-filter\"\nrequired = false");
    put(folder, "required.toml", bind);
    for name in ["one", "two"] {
        put(folder, &format!("{name}.wasm"), guest("twin"));
        put(folder, &format!("{name}.toml"), bind);
    }
    put(folder, "writable.wasm", guest("writable"));
    put(folder, "writable.toml", bind);
    mode(&folder.join("writable.wasm"), 0o666);
    fs::create_dir(folder.join("folder.wasm")).expect("a folder");
    put(folder, "junk.wasm", "junk");
    put(folder, "junk.toml", bind);
    put(folder, "typo.wasm", guest("typo"));
    put(folder, "typo.toml", "[[bind]]\nhok = 1");
    put(folder, "retired.wasm", guest("retired"));
    put(folder, "retired.retired", "");
    put(folder, "bad.set", "[files");
    put(folder, "waiting.wasm", guest("waiting"));
    put(folder, "waiting.set", format!("[files]\n\"waiting.wasm\" = \"{}\"\n", "00".repeat(32)));
    put(folder, "whole.wasm", guest("whole"));
    put(folder, "whole.toml", bind);
    let digest = Sha256::digest(guest("whole"));
    put(folder, "whole.set", format!("[files]\n\"whole.wasm\" = \"{digest:x}\"\n"));
}

#[tokio::test]
async fn a_check_finds_every_state_that_a_gateway_shows() {
    let setup = || setup().set("plugins.auto_bind", false);
    let prepared = Prepared::new(setup()).await;
    fill(&prepared);
    let program = Program::start(prepared.dir.path()).await;
    program.wait_until_plugins_are_loaded().await;
    let status = plugins(&program).await;
    let (document, code) = checked(&prepared);
    assert_eq!(rows(&document["plugins"]), rows(&status));
    assert_eq!((code, &document["is_fine"], &document["problems"]), (Some(78), &json!(false), &json!([])));
    let found: Vec<(String, String, String)> = rows(&status)["plugins"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            let text = |index: usize| row[index].as_str().unwrap_or_default().to_owned();
            (text(0), text(1), text(3))
        })
        .collect();
    let expected = [
        ("active", "active", ""),
        ("folder", "refused", "not-a-file"),
        ("junk", "refused", "not-a-component"),
        ("one", "active", ""),
        ("orphan", "missing", ""),
        ("required", "missing", ""),
        ("retired", "retired", ""),
        ("two", "refused", "duplicate-name"),
        ("typo", "refused", "manifest-invalid"),
        ("unbound", "unbound", ""),
        ("waiting", "waiting", ""),
        ("whole", "active", ""),
        ("writable", "refused", "unsafe-folder"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    assert_eq!(found, expected);
    let sets = rows(&status)["sets"].as_array().expect("rows").clone();
    let sets: Vec<_> = sets.iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(
        sets,
        [("bad", "refused"), ("waiting", "waiting"), ("whole", "applied")].map(|(a, b)| (json!(a), json!(b)))
    );
    // The text form has a line for each.
    let output = program::run(prepared.dir.path(), &["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "ok: active 1.0.0 serves event-filter",
        "missing: orphan: `orphan.wasm` is not there, so nothing is called",
        "missing: required: its required hooks fail closed; restore `required.wasm`",
        "refused: two: `one.wasm` has the name `twin` already and stays",
        "retired: retired: retired by `retired.retired`",
        "unbound: unbound: is called once `unbound.toml` binds it",
        "waiting: waiting: waits for the other files of `waiting.set`",
        "refused: bad.set: `bad.set` cannot be used: ",
        "ok: whole.set has whole",
    ] {
        assert!(text.lines().any(|it| it.starts_with(line)), "{line}:\n{text}");
    }
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_found_by_both_and_costs_no_running_plugin() {
    for bits in [0o777, 0o1777] {
        let prepared = Prepared::new(setup()).await;
        put(&prepared.plugins, "active.wasm", guest("active"));
        put(&prepared.plugins, "active.toml", "[[bind]]\nhook = \"event-filter\"\nrequired = false");
        let program = prepared.start().await;
        mode(&prepared.plugins, bits);
        let status = status_where(&program, "trouble", |status| !status["trouble"].is_null()).await;
        assert_eq!(status["plugins"][0]["state"], "active", "what runs goes on: {status:#}");
        assert_eq!(status["trouble"]["code"], "L12");
        program.signal(Signal::TERM);
        program.ends().await;
        // A start loads nothing from it, and serves.
        let program = prepared.start().await;
        let status = plugins(&program).await;
        assert_eq!((&status["plugins"][0]["state"], &status["trouble"]["code"]), (&json!("refused"), &json!("L12")));
        let (document, code) = checked(&prepared);
        assert_eq!((rows(&document["plugins"]), code), (rows(&status), Some(78)));
    }
}
