//! The commands `yardarm plugin …`, which need no gateway: on the samples, on small guests, and on wrong files.

mod secrets;
mod wanted;
mod wasi;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::sample;
use crate::program::run;

/// A folder with files, in which the program is run.
struct Workshop(TempDir);

/// The result of a command with `--json`.
struct Outcome {
    code: i32,
    document: Value,
}

impl Workshop {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file");
    }

    /// Puts a guest for `request-auth` into the folder.
    fn put_guest(&self, name: &str, guest: Guest, fragment: &str) {
        self.put(name, guest.hook(GuestHook::RequestAuth, fragment).component().expect("a component"));
    }

    /// Puts a sample with its own binding file into the folder.
    fn put_sample(&self, name: &str) {
        self.put(&format!("{name}.wasm"), sample(name));
        let binding = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../plugins/{name}/{name}.toml"));
        fs::copy(binding, self.path(&format!("{name}.toml"))).expect("a binding file");
    }

    fn runs(&self, arguments: &str) -> Outcome {
        let arguments: Vec<&str> = ["plugin", "--json"].into_iter().chain(arguments.split(' ')).collect();
        let output = run(self.0.path(), &arguments);
        let text = String::from_utf8(output.stdout).expect("text");
        let document = serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
        });
        Outcome { code: output.status.code().expect("an exit code"), document }
    }

    /// Runs a command that must succeed.
    fn succeeds(&self, arguments: &str) -> Value {
        let outcome = self.runs(arguments);
        assert_eq!(
            (outcome.code, &outcome.document["is_fine"]),
            (0, &json!(true)),
            "{arguments}: {}",
            outcome.document
        );
        outcome.document
    }

    /// Runs a command that must be refused; returns code, file and text of the error.
    fn is_refused(&self, arguments: &str) -> bool {
        self.runs(arguments).code == 1
    }

    fn refusal(&self, arguments: &str) -> (String, String, String) {
        let Outcome { code, document } = self.runs(arguments);
        assert_eq!((code, &document["is_fine"]), (1, &json!(false)), "{arguments}: {document}");
        let text = |key: &str| document["error"][key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("file"), text("text"))
    }

    /// Runs a command without `--json`; returns its exit code, output and errors.
    fn prints(&self, arguments: &str) -> (i32, String, String) {
        let arguments: Vec<&str> = ["plugin"].into_iter().chain(arguments.split(' ')).collect();
        let output = run(self.0.path(), &arguments);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn the_interface_is_printed_or_written_where_toolchains_look_for_it() {
    let workshop = Workshop::new();
    let printed = workshop.succeeds("wit");
    assert_eq!(printed["package"], "yardarm:plugin@0.1.0");
    let text = printed["text"].as_str().expect("text");
    assert!(text.contains("interface request-auth") && text.contains("world everything"), "{text}");
    workshop.succeeds("wit --out wit");
    let folder = workshop.path("wit/deps/yardarm-plugin");
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v0.1");
    for entry in fs::read_dir(original).expect("a folder") {
        let original = entry.expect("an entry").path();
        let written = folder.join(original.file_name().expect("a name"));
        assert_eq!(fs::read(&written).expect("a written file"), fs::read(&original).expect("a file"));
    }
    workshop.put("file", "");
    assert!(workshop.is_refused("wit --out file/wit"));
    assert_eq!(workshop.prints("wit --output x").0, 2);
    assert_eq!(workshop.prints("wot").0, 2);
}

#[test]
fn a_component_is_described_without_running_it() {
    let workshop = Workshop::new();
    workshop.put_sample("request-gate");
    let described = workshop.succeeds("inspect request-gate.wasm");
    assert_eq!((&described["name"], &described["hooks"]), (&json!("request-gate"), &json!(["request-auth"])));
    assert!(described["sizes"]["core_modules"][0]["functions"].as_u64().expect("a number") > 10, "{described}");
    let producers = described["sizes"]["producers"].as_array().expect("a list");
    assert!(producers.iter().any(|it| it["name"] == "wit-bindgen-rust"), "{described}");
    let (code, text, _) = workshop.prints("inspect request-gate.wasm");
    assert!(code == 0 && text.starts_with("plugin    request-gate"), "{text}");

    // It would never end if it were run.
    let manifest = r#"{"name":"odd","version":"2.1.0","grants":[{"grant":"path","why":"to route","optional":true}]}"#;
    workshop.put_guest(
        "odd.wasm",
        Guest::new("odd").init("(loop $x (br $x)) (i32.const 0)").foreign_import().manifest(manifest),
        guests::CLOCK,
    );
    let described = workshop.succeeds("inspect odd.wasm");
    let wanted = json!([
        {"grant": "path", "why": "to route", "optional": true},
        {"grant": "clock", "why": "", "optional": false},
    ]);
    assert_eq!(described["grants"], wanted);
    let foreign =
        described["imports"].as_array().expect("a list").iter().find(|it| it["name"] == "acme:things/stuff@1.0.0");
    assert_eq!(foreign.expect("the import")["unavailable"], "unknown");

    workshop.put("text.wasm", "no component");
    workshop.put("core.wasm", Guest::new("core").core().expect("a module"));
    for (file, code) in [("text.wasm", "L01"), ("core.wasm", "L01"), ("absent.wasm", "L01")] {
        let (refused, named, _) = workshop.refusal(&format!("inspect {file}"));
        assert_eq!((&*refused, &*named), (code, file));
    }
}

#[test]
fn a_check_reports_what_loading_would() {
    let workshop = Workshop::new();
    for name in ["request-gate", "event-redactor", "flag-override"] {
        workshop.put_sample(name);
        let checked = workshop.succeeds(&format!("check {name}.wasm --binding {name}.toml"));
        assert_eq!(checked["name"], name);
        assert!(
            checked["instance_memory"].as_u64().expect("a number") > 0 && checked["binds"][0]["memory_mb"].is_u64()
        );
    }
    workshop.put_guest("clock.wasm", Guest::new("clock"), guests::CLOCK);
    workshop.put_guest("foreign.wasm", Guest::new("foreign").foreign_import(), guests::ALLOW);
    workshop.put_guest("gate.wasm", Guest::new("gate"), guests::ALLOW);
    workshop.put("gate.toml", "[plugin]\ngrunts = []\n");
    for (arguments, code, text) in [
        ("check clock.wasm", "L06", "grants = [\"clock\"]"),
        ("check foreign.wasm", "L05", "acme:things/stuff@1.0.0"),
        ("check gate.wasm --binding gate.toml", "L07", "`plugin.grunts`"),
    ] {
        let (refused, _, reason) = workshop.refusal(arguments);
        assert!(refused == code && reason.contains(text), "{arguments}: {refused} {reason}");
    }
    let (code, _, errors) = workshop.prints("check clock.wasm");
    assert!(code == 1 && errors.starts_with("error: clock.wasm: L06 capability-denied: "), "{errors}");
}

#[test]
fn a_manifest_is_packed_and_its_cases_are_run_when_the_plugin_is_loaded() {
    let workshop = Workshop::new();
    workshop.put_guest("gate.wasm", Guest::new("gate"), guests::FORBID);
    let manifest = |class: &str| {
        let case = json!({"name": "all", "hook": "request-auth", "expect": {"deny": {"class": class}}});
        json!({"name": "door", "version": "3.0.0", "cases": [case]}).to_string()
    };
    workshop.put("good.json", manifest("forbidden"));
    workshop.put("bad.json", manifest("unavailable"));
    workshop.succeeds("pack gate.wasm --manifest good.json --out door.wasm");
    let checked = workshop.succeeds("check door.wasm");
    assert_eq!((&checked["name"], &checked["version"]), (&json!("door"), &json!("3.0.0")));
    workshop.succeeds("pack gate.wasm --manifest bad.json");
    let (code, _, text) = workshop.refusal("check gate.wasm");
    assert_eq!(code, "L10");
    assert!(
        text.contains("`all`") && text.contains("`deny.class` is \"forbidden\", expected \"unavailable\""),
        "{text}"
    );

    workshop.put("misspelled.json", r#"{"nmae": "door"}"#);
    workshop.put("cut.json", "{\n\"name\": ");
    for (manifest, text) in [("misspelled.json", "`name`"), ("cut.json", "line 2"), ("absent.json", "cannot be read")] {
        let before = fs::read(workshop.path("gate.wasm")).expect("the component");
        let (_, file, reason) = workshop.refusal(&format!("pack gate.wasm --manifest {manifest}"));
        assert!(file == manifest && reason.contains(text), "{file}: {reason}");
        assert_eq!(fs::read(workshop.path("gate.wasm")).expect("the component"), before);
    }
    assert_eq!(workshop.prints("pack gate.wasm").0, 2);
}

/// Cases of the sample `request-gate`; the second line is replaced by `other`.
fn cases(other: &str) -> String {
    format!(
        r#"{{"name": "no token", "hook": "request-auth", "config": {{"tokens": ["open"], "sdks": ["client"]}}, "grants": ["header:x-gate-token"], "expect": {{"deny": {{"class": "forbidden"}}}}}}
{other}
"#
    )
}

#[test]
fn cases_pass_or_show_how_replies_differ() {
    let workshop = Workshop::new();
    workshop.put_sample("request-gate");
    let token = r#"{"name": "token", "hook": "request-auth", "config": {"tokens": ["open"], "sdks": ["client"]}, "grants": ["header:x-gate-token"], "request": {"headers": {"x-gate-token": "open"}}, "expect": {"allow": {}}}"#;
    workshop.put("request-gate.cases.jsonl", cases(token));
    let passed = workshop.succeeds("test request-gate.wasm");
    assert_eq!((&passed["failed"], passed["cases"].as_array().map(Vec::len)), (&json!(0), Some(2)));

    workshop.put(
        "wrong.jsonl",
        cases(&token.replace(r#"{"allow": {}}"#, r#"{"deny": {"class": "forbidden", "retry_after": 3}}"#)),
    );
    let failed = workshop.runs("test request-gate.wasm --cases wrong.jsonl");
    assert_eq!((failed.code, &failed.document["failed"]), (1, &json!(1)));
    assert_eq!(failed.document["cases"][1]["fresh"][0]["field"], "reply", "{}", failed.document);

    // Reads without the grant are named.
    workshop.put("blind.jsonl", cases(&token.replace(r#"["header:x-gate-token"]"#, "[]")));
    let (code, text, _) = workshop.prints("test request-gate.wasm --cases blind.jsonl");
    assert!(code == 1 && text.contains("FAILED request-auth: token") && text.contains("1 of 2 cases failed"), "{text}");

    for (other, fault) in [
        ("{", "line 2"),
        (r#"{"name": "x", "hook": "request-auth", "expect": "abstain", "requests": {}}"#, "`requests`"),
        (r#"{"name": "x", "hook": "request-auth", "expect": "abstain", "request": {"sdk": "watch"}}"#, "`request.sdk`"),
    ] {
        workshop.put("invalid.jsonl", cases(other));
        let (_, file, text) = workshop.refusal("test request-gate.wasm --cases invalid.jsonl");
        assert!(file == "invalid.jsonl" && text.contains(fault), "{other}: {text}");
    }
    let (_, _, text) = workshop.refusal("test request-gate.wasm --cases absent.jsonl");
    assert!(text.contains("cannot be read"), "{text}");
}

#[test]
fn state_between_calls_and_failures_are_found() {
    let workshop = Workshop::new();
    let case = |expect: Value| json!({"name": "one", "hook": "request-auth", "expect": expect}).to_string();
    workshop.put_guest("count.wasm", Guest::new("count"), guests::COUNT_CALLS);
    workshop.put("count.cases.jsonl", case(json!({"deny": {"class": "rate-limited", "retry_after": 1}})));
    let counted = workshop.runs("test count.wasm");
    let difference = json!([{"field": "deny.retry_after", "expected": 1, "actual": 2}]);
    assert_eq!((counted.code, &counted.document["cases"][0]["reused"]), (1, &difference), "{}", counted.document);
    assert_eq!(counted.document["cases"][0]["fresh"], json!([]));

    for (fragment, class) in [
        (guests::TRAP, "trap"),
        (guests::SPIN, "deadline"),
        (guests::GROW, "memory-limit"),
        (guests::TEMPORARY, "guest-error"),
        (guests::FORGE_HEADER, "output-invalid"),
    ] {
        workshop.put_guest("bad.wasm", Guest::new("bad"), fragment);
        workshop.put("bad.cases.jsonl", case(json!({"failure": {"class": class}})));
        workshop.succeeds("test bad.wasm");
        workshop.put("bad.cases.jsonl", case(json!("abstain")));
        assert!(workshop.is_refused("test bad.wasm"), "{class}");
    }
}

#[test]
fn costs_are_measured_and_compared_with_earlier_ones() {
    let workshop = Workshop::new();
    workshop.put_guest("gate.wasm", Guest::new("gate"), guests::ALLOW);
    workshop.put("gate.cases.jsonl", r#"{"name": "all", "hook": "request-auth", "expect": {"allow": {}}}"#);
    let measured = workshop.succeeds("bench gate.wasm --save before.json");
    let cost = &measured["cases"][0];
    let instructions = cost["instructions"].as_u64().expect("a number");
    assert!(instructions > 0 && cost["reused"]["calls"].as_u64() > Some(10), "{measured}");
    workshop.succeeds("bench gate.wasm --baseline before.json");

    let mut before: Value =
        serde_json::from_slice(&fs::read(workshop.path("before.json")).expect("a file")).expect("JSON");
    before["cases"][0]["instructions"] = (instructions / 2).into();
    workshop.put("before.json", before.to_string());
    let grown = workshop.runs("bench gate.wasm --baseline before.json");
    assert_eq!((grown.code, &grown.document["regressions"][0]["figure"]), (1, &json!("instructions")));

    workshop.put("other.json", "{}");
    let (_, file, text) = workshop.refusal("bench gate.wasm --baseline other.json");
    assert!(file == "other.json" && text.contains("not a saved result"), "{text}");
    fs::remove_file(workshop.path("gate.cases.jsonl")).expect("a file");
    assert!(workshop.refusal("bench gate.wasm").2.contains("gate.cases.jsonl"));
    assert_eq!(workshop.refusal("bench absent.wasm").0, "L01");
}

#[test]
fn components_are_signed_and_verified() {
    let workshop = Workshop::new();
    workshop.put_guest("gate.wasm", Guest::new("gate"), guests::ALLOW);
    let key = workshop.succeeds("keygen release.pem")["public_key"].as_str().expect("a key").to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(workshop.path("release.pem")).expect("a file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(workshop.runs("keygen release.pem").code, 1, "a key is not overwritten");
    let unsigned = fs::read(workshop.path("gate.wasm")).expect("a component");
    assert_eq!(workshop.runs(&format!("verify gate.wasm --key {key}")).document["error"]["class"], "signature-missing");
    let signed = workshop.succeeds("sign gate.wasm --key release.pem --out signed.wasm");
    assert_eq!((&signed["name"], &signed["key"]), (&json!("gate"), &json!(key)));
    assert_eq!(fs::read(workshop.path("gate.wasm")).expect("a component"), unsigned, "only the other file is written");
    assert_eq!(workshop.succeeds(&format!("verify signed.wasm --key {key}"))["sha256"], signed["sha256"]);
    assert_eq!(workshop.succeeds("check signed.wasm")["sha256"], signed["sha256"], "it is loaded like any other");

    let other = workshop.succeeds("keygen other.pem")["public_key"].as_str().expect("a key").to_owned();
    let refused = workshop.runs(&format!("verify signed.wasm --key {other}"));
    assert_eq!((refused.code, &refused.document["error"]["code"]), (1, &json!("L11")));
    workshop.put("manifest.json", "{\"name\": \"gate\"}");
    workshop.succeeds("pack signed.wasm --manifest manifest.json");
    assert_eq!(
        workshop.runs(&format!("verify signed.wasm --key {key}")).document["error"]["class"],
        "signature-invalid"
    );
    let text = run(workshop.0.path(), &["plugin", "sign", "gate.wasm", "--key", "gate.wasm"]);
    let text = String::from_utf8_lossy(&text.stderr).into_owned();
    assert!(text.contains("gate.wasm") && text.contains("not a private key in PEM"), "{text}");
    let text = run(workshop.0.path(), &["plugin", "verify", "gate.wasm", "--key", "rsa:x"]);
    assert_eq!(text.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&text.stderr).contains("32 bytes in Base64"));
}

#[test]
fn two_versions_are_compared() {
    let workshop = Workshop::new();
    workshop.put_guest("old.wasm", Guest::new("gate"), guests::FORBID);
    workshop.put_guest("new.wasm", Guest::new("gate").version("2.0.0"), guests::CLOCK);
    workshop.put("cases.jsonl", r#"{"name": "all", "hook": "request-auth", "expect": {"allow": {}}}"#);
    let compared = workshop.succeeds("diff old.wasm new.wasm --cases cases.jsonl");
    assert_eq!(compared["version"], json!(["1.0.0", "2.0.0"]));
    assert_eq!(compared["grants"], json!({"new": ["clock"], "dropped": []}));
    assert_eq!(compared["replies"][0]["old"]["deny"]["class"], "forbidden", "{compared}");
    assert!(compared["replies"][0]["new"]["allow"].is_object(), "{compared}");
    let same = workshop.succeeds("diff old.wasm old.wasm");
    assert_eq!((&same["replies"], &same["compared"]), (&json!([]), &json!(0)));
    for arguments in ["diff old.wasm absent.wasm", "diff old.wasm cases.jsonl", "diff old.wasm new.wasm --cases absent"]
    {
        assert!(workshop.is_refused(arguments), "{arguments}");
    }
    assert_eq!(workshop.prints("diff old.wasm").0, 2);
}

#[test]
fn a_new_plugin_is_created_in_an_empty_folder() {
    let workshop = Workshop::new();
    let created = workshop.succeeds("new my-gate --lang js --hook request-auth");
    let written = created["written"].as_array().expect("a list");
    assert!(written.contains(&json!("my-gate/plugin.mjs")), "{created}");
    let (_, file, text) = workshop.refusal("new my-gate --lang js --hook request-auth");
    assert!(file == "my-gate" && text.contains("not empty"), "{text}");
    assert!(workshop.is_refused("new gate --lang rust --hook request-auth --sdk absent"));
    for wrong in [
        "new Gate --lang js --hook request-auth",
        "new gate --lang cobol --hook request-auth",
        "new gate --lang js --hook all",
    ] {
        assert_eq!(workshop.prints(wrong).0, 2, "{wrong}");
    }
}
