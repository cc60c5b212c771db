//! Components that import WASI 0.3.

use super::*;

#[test]
fn a_component_for_wasi_0_3_is_described_compiled_called_and_measured() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo"), guests::READ_WASI_0_3);
    let described = workshop.succeeds("inspect zoo.wasm");
    let imports = described["imports"].as_array().expect("a list");
    for name in ["wasi:clocks/system-clock@0.3.0", "wasi:random/random@0.3.0"] {
        let import = imports.iter().find(|it| it["name"] == name).expect("the import");
        assert!(import["grant"].is_null() && import["unavailable"].is_null(), "{import}");
    }
    let (_, text, _) = workshop.prints("inspect zoo.wasm");
    assert!(text.contains("wasi:clocks/system-clock@0.3.0\n"), "{text}");

    // Compiled by a child process, and linked and started in an engine with a pool.
    workshop.succeeds("check zoo.wasm");
    let case = r#"{"name": "day", "hook": "request-auth", "request": {"headers": {}}, "expect": {"allow": {"principal": "18262"}}}"#;
    workshop.put("zoo.cases.jsonl", case);
    let tested = workshop.runs("test zoo.wasm");
    assert_eq!(tested.code, 0, "{}", tested.document);
    let measured = workshop.runs("bench zoo.wasm");
    assert!(measured.document["cases"][0]["instructions"].as_u64() > Some(0), "{}", measured.document);
}

#[test]
fn sockets_of_wasi_0_3_are_shown_as_not_offered() {
    let workshop = Workshop::new();
    workshop.put_guest("zoo.wasm", Guest::new("zoo"), guests::RESOLVE_WASI_0_3);
    let (_, text, _) = workshop.prints("inspect zoo.wasm");
    assert!(text.contains("wasi:sockets/ip-name-lookup@0.3.0  not offered: sockets are never offered"), "{text}");
    let (code, _, text) = workshop.refusal("check zoo.wasm");
    assert!(code == "L05" && text.contains("wasi:sockets/ip-name-lookup@0.3.0"), "{code} {text}");
}
