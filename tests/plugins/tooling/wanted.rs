//! What a manifest wants: patterns of grants, and limits.

use super::*;

const MANIFEST: &str = r#"{"name": "zoo", "grants": [{"grant": "secret:*", "why": "the key"}],
    "limits": {"request-auth": {"deadline_ms": 50, "why": "to verify"}}}"#;

#[test]
fn what_a_component_wants_is_shown_and_refused_with_the_lines_to_write() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo").manifest(MANIFEST), guests::ALLOW);
    let described = workshop.succeeds("inspect zoo.wasm");
    assert_eq!(described["grants"], json!([{"grant": "secret:*", "why": "the key", "optional": false}]));
    assert_eq!(described["limits"], json!({"request-auth": {"deadline_ms": 50, "why": "to verify"}}));
    let (_, text, _) = workshop.prints("inspect zoo.wasm");
    assert!(text.contains("request-auth: 50 ms  to verify") && text.contains("secret:*  the key"), "{text}");

    let bind = "[[bind]]\nhook = \"request-auth\"\n";
    workshop.put("zoo.toml", bind);
    let (code, _, text) = workshop.refusal("check zoo.wasm --binding zoo.toml");
    assert!(code == "L06" && text.contains("`grants = [\"secret:<name>\"]`"), "{code} {text}");
    workshop.put("zoo.toml", format!("[plugin]\ngrants = [\"secret:key\"]\n{bind}"));
    let (code, _, text) = workshop.refusal("check zoo.wasm --binding zoo.toml");
    assert!(code == "L06" && text.contains("`limits = { deadline_ms = 50 }`"), "{code} {text}");
    workshop.put("zoo.toml", format!("[plugin]\ngrants = [\"secret:key\"]\n{bind}limits = {{ deadline_ms = 50 }}"));
    let checked = workshop.succeeds("check zoo.wasm --binding zoo.toml");
    assert_eq!((&checked["binds"][0]["deadline"], &checked["grants"]), (&json!(50), &json!(["secret:key"])));

    let small = MANIFEST.replace("50", "2");
    workshop.put_guest("small.wasm", Guest::new("zoo").manifest(&small), guests::ALLOW);
    let compared = workshop.succeeds("diff zoo.wasm small.wasm");
    assert_eq!(compared["limits"], json!({"new": ["request-auth: 2 ms"], "dropped": ["request-auth: 50 ms"]}));
}

#[test]
fn a_manifest_with_limits_of_no_hook_is_not_packed() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo"), guests::ALLOW);
    for (limits, expected) in [
        (r#"{"request-aut": {"deadline_ms": 5}}"#, "`limits.request-aut` is not a hook"),
        (
            r#"{"request-auth": {"deadline_ms": 0}}"#,
            "`limits.request-auth.deadline_ms` must be a number from 1 to 60000",
        ),
    ] {
        workshop.put("manifest.json", format!(r#"{{"name": "zoo", "limits": {limits}}}"#));
        let (code, _, text) = workshop.refusal("pack zoo.wasm --manifest manifest.json");
        assert!(code == "L07" && text.contains(expected), "{code} {text}");
    }
}

#[test]
fn an_import_without_its_grant_is_named_in_the_case() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo"), guests::CLOCK);
    workshop.put(
        "zoo.cases.jsonl",
        r#"{"name": "one", "hook": "request-auth", "grants": ["path"], "request": {}, "expect": {"allow": {}}}"#,
    );
    let outcome = workshop.runs("test zoo.wasm");
    let failure = &outcome.document["cases"][0]["reply"]["failure"];
    assert_eq!((outcome.code, &failure["class"]), (1, &json!("capability-denied")), "{}", outcome.document);
    let text = failure["text"].as_str().unwrap_or_default();
    assert!(text.contains(r#"write `"grants": ["path", "clock"]` in the case"#), "{text}");
}
