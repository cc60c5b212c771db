//! What a manifest wants: patterns of grants.

use super::*;

const MANIFEST: &str = r#"{"name": "zoo", "grants": [{"grant": "secret:*", "why": "the key"}]}"#;

#[test]
fn what_a_component_wants_is_shown_and_refused_with_the_line_to_write() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo").manifest(MANIFEST), guests::ALLOW);
    let described = workshop.succeeds("inspect zoo.wasm");
    assert_eq!(described["grants"], json!([{"grant": "secret:*", "why": "the key", "optional": false}]));

    let bind = "[[bind]]\nhook = \"request-auth\"\n";
    workshop.put("zoo.toml", bind);
    let (code, _, text) = workshop.refusal("check zoo.wasm --binding zoo.toml");
    assert!(code == "L06" && text.contains("`grants = [\"secret:<name>\"]`"), "{code} {text}");
    workshop.put("zoo.toml", format!("[plugin]\ngrants = [\"secret:key\"]\n{bind}"));
    let checked = workshop.succeeds("check zoo.wasm --binding zoo.toml");
    assert_eq!(checked["grants"], json!(["secret:key"]));
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
