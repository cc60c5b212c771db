//! A plugin without grants obtains nothing: canary secrets are in every channel that it could reach, and a plugin that logs,
//! counts and replies with all that it can read runs in each hook. Nothing that the gateway emits contains a canary where it
//! does not belong. The same plugin with all grants shows that the search finds what is leaked.
//!
//! Acceptance test 6 of the plugin system.

mod emitted;
mod harness;
mod launchdarkly;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use self::emitted::{Canary, Place};
use super::folder::{row, status_where};
use super::put;
use crate::program::{self, Program};

// Canaries are of this form: `canary-` and a name. These are not of one vendor.
const HEADER: &str = "canary-header";
const COOKIE: &str = "canary-cookie";
const ADDRESS: &str = "203.0.113.77";
const QUERY: &str = "canary-query";
const CONTEXT_KEY: &str = "canary-context-key";
const ATTRIBUTE: &str = "canary-attribute";
const EVENT: &str = "canary-event";
const FLAG: &str = "canary-flag";
const VARIABLE: &str = "canary-variable";
const SECRET: &str = "canary-secret";
const UNUSED_SECRET: &str = "canary-unused-secret";
const CONFIG: &str = "canary-config";
const STORED: &str = "canary-stored";
const PUBLISHED: &str = "canary-published";
const PRINCIPAL: &str = "canary-principal";
const FILE: &str = "canary-file";

/// Canaries that belong to the same places with both vendors.
const COMMON: [Canary; 13] = [
    (HEADER, &[]),
    (COOKIE, &[]),
    // Lines about a request name the client.
    (ADDRESS, &[Place::HostLog]),
    (QUERY, &[]),
    (FLAG, &[Place::Responses, Place::Disk]),
    (VARIABLE, &[]),
    (SECRET, &[]),
    (UNUSED_SECRET, &[]),
    // Binding files of versions that may return, and stored values.
    (CONFIG, &[Place::Disk]),
    (STORED, &[Place::Disk]),
    // They are in the code of a plugin that is kept.
    (PUBLISHED, &[Place::Disk]),
    (PRINCIPAL, &[Place::Disk]),
    (FILE, &[]),
];

const HOOKS: [(GuestHook, &str, &str); 8] = [
    (GuestHook::RequestAuth, guests::LEAK_REQUEST, "request-auth"),
    (GuestHook::EventFilter, guests::LEAK_EVENTS, "event-filter"),
    (GuestHook::PayloadTransform, guests::LEAK_ITEMS, "payload-transform"),
    (GuestHook::ContextEnrichment, guests::LEAK_CONTEXT, "context-enrichment"),
    (GuestHook::EvaluationTransform, guests::LEAK_RESULTS, "evaluation-transform"),
    (GuestHook::Background, guests::LEAK_WORK, "background"),
    (GuestHook::ChangeListener, guests::LEAK_CHANGES, "change-listener"),
    (GuestHook::RouteResolver, guests::LEAK_UNRESOLVED, "route-resolver"),
];

/// All grants that give something to read.
const GRANTS: [&str; 12] = [
    "header:x-canary",
    "header:authorization",
    "header:cookie",
    "credential:raw",
    "client-address",
    "path",
    "query",
    "identity",
    "event-bodies",
    "flag-data",
    "context-key",
    "context-attributes:*",
];

fn all_grants() -> String {
    GRANTS.map(|grant| format!("{grant:?}")).join(", ")
}

/// Returns the binding file of the plugin that leaks, with more time than in other tests because it does much.
fn leak_binding(grants: &str) -> String {
    let bind = |hook: &str| format!("[[bind]]\nhook = \"{hook}\"\nlimits = {{ deadline_ms = 2000 }}\n");
    format!("[plugin]\ngrants = [{grants}]\n{}", HOOKS.map(|(.., hook)| bind(hook)).concat())
}

/// Puts secrets, a file and the plugins into the folder of a gateway, and starts it.
async fn start(root: &Path, grants: &str) -> Program {
    fs::create_dir(root.join("secrets")).expect("a folder");
    for (name, content) in [("secrets/other", SECRET), ("secrets/unused", UNUSED_SECRET), ("file", FILE)] {
        fs::write(root.join(name), content).expect("a file");
    }
    let folder = root.join("plugins.d");
    let leak = HOOKS.iter().fold(Guest::new("leak"), |guest, (hook, fragment, _)| guest.hook(*hook, fragment));
    put(&folder, "leak.toml", leak_binding(grants));
    put(&folder, "leak.wasm", leak.component().expect("a component"));
    put(&folder, "other.toml", other_binding());
    put(&folder, "other.wasm", other().component().expect("a component"));
    let late = "[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"request-auth\"\nphase = \"late\"\n";
    put(&folder, "thief.toml", late);
    put(&folder, "thief.wasm", thief().component().expect("a component"));

    let mut command = program::command(root);
    command.env("CANARY", VARIABLE);
    let program = Program::launch(command).await;
    program.wait_until_ready().await;
    for name in ["leak", "other", "thief"] {
        status_where(&program, name, |status| row(status, name)["state"] == "active").await;
    }
    program
}

/// A plugin with a secret, stored values, a published one, and an identity that it gives to callers.
fn other() -> Guest {
    let allow = format!(
        "(data (i32.const 2048) \"{STORED}{PRINCIPAL}\")\n;; body\n\
         (call $kv_increment (i32.const 2048) (i32.const {stored}) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 512))\n\
         (if (i32.load8_u (i32.const 512)) (then unreachable))\n\
         (call $shared_get (i32.const 2560) (i32.const 5) (i32.const 512))\n\
         (if (i32.eqz (i32.load8_u (i32.const 512))) (then unreachable))\n\
         (call $allow (i32.const {principal}) (i32.const {length}))",
        stored = STORED.len(),
        principal = 2048 + STORED.len(),
        length = PRINCIPAL.len(),
    );
    let publish = format!(
        "(data (i32.const 2560) \"token{PUBLISHED}\")\n;; body\n\
         (call $publish (i32.const 2560) (i32.const 5) (i32.const 2565) (i32.const {length}))",
        length = PUBLISHED.len(),
    );
    Guest::new("other").hook(GuestHook::RequestAuth, &allow).hook(GuestHook::Background, &publish)
}

fn other_binding() -> String {
    format!(
        "[plugin]\nkv = \"disk\"\ngrants = [\"kv\", \"secret:other\"]\n[plugin.config]\ntext = \"{CONFIG}\"\n\
         token = {{ secret = \"other\" }}\n[[bind]]\nhook = \"request-auth\"\nphase = \"early\"\n\
         [[bind]]\nhook = \"background\"\n"
    )
}

/// A plugin that reads the stored value of the other one, by its key, and traps if there is one.
fn thief() -> Guest {
    let fragment = format!(
        "(data (i32.const 2048) \"{STORED}\")\n;; body\n\
         (call $kv_increment (i32.const 2048) (i32.const {stored}) (i64.const 0) (i32.const 0) (i64.const 0) (i32.const 512))\n\
         (if (i32.load8_u (i32.const 512)) (then unreachable))\n\
         (if (i64.ne (i64.load (i32.const 520)) (i64.const 0)) (then unreachable))\n\
         (call $abstain)",
        stored = STORED.len(),
    );
    Guest::new("thief").hook(GuestHook::RequestAuth, &fragment)
}

/// Waits until all hooks were called; panics if a call failed.
async fn wait_for_calls(program: &Program) {
    let is_called = |status: &Value| {
        let calls = calls(status);
        assert!(calls.values().all(|(_, failed)| *failed == 0), "{calls:?}");
        HOOKS.iter().all(|(.., hook)| calls.get(*hook).is_some_and(|(good, _)| *good > 0))
    };
    status_where(program, "a call of each hook", is_called).await;
}

/// Returns the calls of all plugins by hook: those that brought a reply, and those that failed.
fn calls(status: &Value) -> BTreeMap<String, (u64, u64)> {
    let mut calls: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let plugins = status["plugins"].as_array().expect("rows");
    for hook in plugins.iter().flat_map(|plugin| plugin["active"]["calls"].as_array().expect("calls")) {
        let all: u64 = hook["outcomes"].as_array().expect("pairs").iter().filter_map(|pair| pair[1].as_u64()).sum();
        let failed = hook["failed"].as_u64().expect("a number");
        let sums = calls.entry(hook["hook"].as_str().expect("a name").to_owned()).or_default();
        *sums = (sums.0 + all - failed, sums.1 + failed);
    }
    calls
}
