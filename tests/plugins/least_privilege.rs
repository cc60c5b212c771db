//! A plugin without grants obtains nothing: canary secrets are in every channel that it could reach, and a plugin that logs,
//! counts and replies with all that it can read runs in each hook. Nothing that the gateway emits contains a canary where it
//! does not belong. The same plugin with all grants shows that the search finds what is leaked.
//!
//! Acceptance test 6 of the plugin system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Answer, Call, until, within};

use super::folder::{Prepared, plugins, row, status_where};
use super::put;
use crate::flags::{data, flag_with};
use crate::program::{self, Program, Signal};
use crate::running::{ENV_ID, Setup};

/// Canaries are of this form: `canary-` and a name.
const HEADER: &str = "canary-header";
const COOKIE: &str = "canary-cookie";
const SDK_KEY: &str = "sdk-canary0-0000-4000-8000-000000000001";
const MOBILE_KEY: &str = "mob-canary0-0000-4000-8000-000000000002";
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
const PRINCIPAL: &str = "canary-principal";
const FILE: &str = "canary-file";

/// Where something is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The host's lines of the log, and what it adds to those of plugins.
    HostLog,
    /// What plugins have logged.
    GuestLog,
    /// The admin listener: metrics, status, plugins, environments.
    Operators,
    /// Responses to SDKs.
    Responses,
    /// Requests to upstream, events among them.
    Upstream,
    /// The data folder.
    Disk,
}

/// Canaries, and the places where they belong.
const CANARIES: [(&str, &[Place]); 17] = [
    (HEADER, &[]),
    (COOKIE, &[]),
    (SDK_KEY, &[Place::Upstream]),
    (MOBILE_KEY, &[Place::Upstream]),
    // Lines about a request name the client.
    (ADDRESS, &[Place::HostLog]),
    (QUERY, &[]),
    (CONTEXT_KEY, &[]),
    (ATTRIBUTE, &[]),
    (EVENT, &[Place::Upstream]),
    (FLAG, &[Place::Responses, Place::Disk]),
    (VARIABLE, &[]),
    (SECRET, &[]),
    (UNUSED_SECRET, &[]),
    // Binding files of versions that may return, and stored values.
    (CONFIG, &[Place::Disk]),
    (STORED, &[Place::Disk]),
    // It is in the code of a plugin that is kept.
    (PRINCIPAL, &[Place::Disk]),
    (FILE, &[]),
];

const HOOKS: [(GuestHook, &str, &str); 5] = [
    (GuestHook::RequestAuth, guests::LEAK_REQUEST, "request-auth"),
    (GuestHook::EventFilter, guests::LEAK_EVENTS, "event-filter"),
    (GuestHook::PayloadTransform, guests::LEAK_ITEMS, "payload-transform"),
    (GuestHook::ContextEnrichment, guests::LEAK_CONTEXT, "context-enrichment"),
    (GuestHook::EvaluationTransform, guests::LEAK_RESULTS, "evaluation-transform"),
];

/// Returns the binding file of the plugin that leaks, with more time than in other tests because it does much.
fn leak_binding(grants: &str) -> String {
    let bind = |hook: &str| format!("[[bind]]\nhook = \"{hook}\"\nlimits = {{ deadline_ms = 2000 }}\n");
    format!("[plugin]\ngrants = [{grants}]\n{}", HOOKS.map(|(.., hook)| bind(hook)).concat())
}

/// Everything that was emitted, by place.
type Emitted = BTreeMap<Place, Vec<String>>;

/// Runs the gateway with both plugins, sends requests of every kind, and returns what was emitted.
async fn emitted(grants: &str) -> Emitted {
    let flag = |version| flag_with("plain", version, json!({"variations": [FLAG, "other"]}));
    let environment = json!({"name": "main", "sdk_key": SDK_KEY, "mobile_key": MOBILE_KEY, "env_id": ENV_ID});
    let setup = Setup::new().environments([environment]).data(SDK_KEY, data([flag(3)], []));
    let setup = setup.events().set("log.level", "trace").set("server.trusted_proxies", json!(["127.0.0.0/8"]));
    let prepared = Prepared::new(setup.set("plugins.secrets_dir", "secrets")).await;
    let root = prepared.dir.path();
    fs::create_dir(root.join("secrets")).expect("a folder");
    for (name, content) in [("secrets/other", SECRET), ("secrets/unused", UNUSED_SECRET), ("file", FILE)] {
        fs::write(root.join(name), content).expect("a file");
    }
    let leak = HOOKS.iter().fold(Guest::new("leak"), |guest, (hook, fragment, _)| guest.hook(*hook, fragment));
    put(&prepared.plugins, "leak.toml", leak_binding(grants));
    put(&prepared.plugins, "leak.wasm", leak.component().expect("a component"));
    put(&prepared.plugins, "other.toml", other_binding());
    put(&prepared.plugins, "other.wasm", other().component().expect("a component"));
    put(
        &prepared.plugins,
        "thief.toml",
        "[plugin]\ngrants = [\"kv\"]\n[[bind]]\nhook = \"request-auth\"\nphase = \"late\"\n",
    );
    put(&prepared.plugins, "thief.wasm", thief().component().expect("a component"));

    let mut command = program::command(root);
    command.env("CANARY", VARIABLE);
    let program = Program::launch(command).await;
    program.wait_until_ready().await;
    for name in ["leak", "other", "thief"] {
        status_where(&program, name, |status| row(status, name)["state"] == "active").await;
    }
    let mut emitted = Emitted::new();
    emitted.insert(Place::Responses, responses(&program).await);
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

    let calls = calls(&plugins(&program).await);
    for (.., hook) in HOOKS {
        assert!(calls.get(hook).is_some_and(|(good, failed)| *good > 0 && *failed == 0), "{hook}: {calls:?}");
    }
    let mut operators = Vec::new();
    for path in ["/metrics", "/api/plugins", "/api/environments", "/api/status", "/ready", "/"] {
        operators.push(shown(&program.operator_gets(path).await));
    }
    emitted.insert(Place::Operators, operators);
    program.signal(Signal::TERM);
    let (status, log) = program.ends().await;
    assert!(status.success(), "{status}");
    for line in log {
        let (place, text) = logged(&line);
        emitted.entry(place).or_default().push(text);
        emitted.entry(Place::HostLog).or_default().push(line_without_message(&line));
    }
    let sent = prepared.cloud.requests().into_iter();
    let sent = sent.map(|it| format!("{} {:?} {}", it.path, it.headers, String::from_utf8_lossy(&it.body())));
    emitted.insert(Place::Upstream, sent.collect());
    emitted.insert(Place::Disk, files(&root.join("data")));
    emitted
}

/// Returns what a line says: the plugin's own text, or all of a line of the host.
fn logged(line: &str) -> (Place, String) {
    let fields: Value = serde_json::from_str(line).unwrap_or_default();
    match fields["target"].as_str() {
        Some("yardarm::guest") => (Place::GuestLog, fields["message"].as_str().expect("a text").to_owned()),
        _ => (Place::HostLog, line.to_owned()),
    }
}

/// Returns what the host adds to the text of a line, such as the client whose request it is about.
fn line_without_message(line: &str) -> String {
    let mut fields: Value = serde_json::from_str(line).unwrap_or_default();
    fields["message"].take();
    fields.to_string()
}

/// A plugin with a secret, stored values, and an identity that it gives to callers.
fn other() -> Guest {
    let fragment = format!(
        "(data (i32.const 2048) \"{STORED}{PRINCIPAL}\")\n;; body\n\
         (call $kv_increment (i32.const 2048) (i32.const {stored}) (i64.const 1) (i32.const 0) (i64.const 0) (i32.const 512))\n\
         (if (i32.load8_u (i32.const 512)) (then unreachable))\n\
         (call $allow (i32.const {principal}) (i32.const {length}))",
        stored = STORED.len(),
        principal = 2048 + STORED.len(),
        length = PRINCIPAL.len(),
    );
    Guest::new("other").hook(GuestHook::RequestAuth, &fragment)
}

fn other_binding() -> String {
    format!(
        "[plugin]\nkv = \"disk\"\ngrants = [\"kv\", \"secret:other\"]\n[plugin.config]\ntext = \"{CONFIG}\"\n\
         token = {{ secret = \"other\" }}\n[[bind]]\nhook = \"request-auth\"\nphase = \"early\"\n"
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

fn shown(answer: &Answer) -> String {
    format!("{:?} {}", answer.headers, answer.text())
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

/// Returns names and content of all files below a folder.
fn files(folder: &Path) -> Vec<String> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let content = fs::read(&path).expect("a file");
                    files.push(format!("{} {}", path.display(), String::from_utf8_lossy(&content)));
                }
            }
        }
    }
    files
}

/// Returns the canaries in a place, each with the text around its first occurrence.
fn found(emitted: &Emitted, canary: &str) -> BTreeMap<Place, String> {
    let around = |text: &String| {
        let at = text.find(canary)?;
        let (start, end) = (text.floor_char_boundary(at.saturating_sub(300)), text.floor_char_boundary(at + 300));
        Some(text[start..end].to_owned())
    };
    emitted.iter().filter_map(|(place, texts)| Some((*place, texts.iter().find_map(around)?))).collect()
}

#[tokio::test]
async fn without_grants_no_canary_is_anywhere_it_does_not_belong() {
    let emitted = emitted("").await;
    assert!(emitted.contains_key(&Place::GuestLog), "the plugin logs");
    let mut misplaced = Vec::new();
    for (canary, belongs) in CANARIES {
        let found = found(&emitted, canary);
        misplaced.extend(found.into_iter().filter(|(place, _)| !belongs.contains(place)).map(|it| (canary, it)));
    }
    assert!(misplaced.is_empty(), "{misplaced:#?}");
    // They are where they belong, so the search is one of what was sent.
    for (canary, place) in [(EVENT, Place::Upstream), (FLAG, Place::Responses), (SDK_KEY, Place::Upstream)] {
        assert!(found(&emitted, canary).contains_key(&place), "{canary} {place:?}");
    }
}

/// The counterpart: with the grants, all of it is in the log of the plugin. What belongs to other plugins and to the process is
/// not, because there is no grant for it.
#[tokio::test]
async fn with_grants_the_same_plugin_obtains_what_they_give() {
    let grants = [
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
    let emitted = emitted(&grants.map(|grant| format!("{grant:?}")).join(", ")).await;
    let read = [HEADER, COOKIE, SDK_KEY, MOBILE_KEY, ADDRESS, QUERY, CONTEXT_KEY, ATTRIBUTE, EVENT, FLAG, PRINCIPAL];
    for (canary, _) in CANARIES {
        let is_logged = found(&emitted, canary).contains_key(&Place::GuestLog);
        assert_eq!(is_logged, read.contains(&canary), "{canary}");
    }
}
