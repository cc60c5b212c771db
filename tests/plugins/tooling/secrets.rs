//! `--secrets`: the secrets that the configuration of a binding file refers to.

use super::*;

#[test]
fn secrets_are_read_from_a_folder() {
    let workshop = Workshop::new();
    workshop.put("gate.wasm", sample("signed-request"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/cookbook/signed-request");
    fs::copy(recipe.join("signed-request.toml"), workshop.path("gate.toml")).expect("a binding file");
    fs::create_dir(workshop.path("secrets")).expect("a folder");
    let (code, _, text) = workshop.refusal("check gate.wasm --binding gate.toml");
    assert!(code == "L08" && text.contains("`request-key`"), "{code} {text}");
    let (code, _, text) = workshop.refusal("check gate.wasm --binding gate.toml --secrets secrets");
    assert!(code == "L08" && text.contains("request-key` cannot be read"), "{code} {text}");

    workshop.put("secrets/request-key", "canary-of-sixteen-bytes\n");
    let checked = workshop.succeeds("check gate.wasm --binding gate.toml --secrets secrets");
    assert!(!checked.to_string().contains("canary"), "{checked}");
    let case = r#"{"name": "unsigned", "hook": "request-auth", "request": {"headers": {}}, "expect": {"deny": {"class": "unauthorized"}}}"#;
    workshop.put("gate.cases.jsonl", case);
    let outcome = workshop.runs("test gate.wasm --binding gate.toml");
    let class = &outcome.document["cases"][0]["reply"]["failure"]["class"];
    assert_eq!((outcome.code, class), (1, &json!("config-invalid")), "{}", outcome.document);
    let reply = &workshop.runs("test gate.wasm --binding gate.toml --secrets secrets").document["cases"][0]["reply"];
    assert!(reply["deny"].is_object(), "{reply}");
    let measured = workshop.runs("bench gate.wasm --binding gate.toml --secrets secrets");
    assert!(measured.document["cases"][0]["instructions"].as_u64() > Some(0), "{}", measured.document);
    // A secret of the case comes first.
    let with_secret = case.replace(r#""hook""#, r#""services": {"secrets": {"request-key": "short"}}, "hook""#);
    workshop.put("gate.cases.jsonl", with_secret);
    let reply = &workshop.runs("test gate.wasm --binding gate.toml --secrets secrets").document["cases"][0]["reply"];
    assert_eq!(reply["failure"]["kind"], "invalid-input", "{reply}");
}
