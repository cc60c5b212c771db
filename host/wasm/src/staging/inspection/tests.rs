use proptest::prelude::*;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::*;

fn guest() -> Vec<u8> {
    Guest::new("zoo").hook(GuestHook::PayloadTransform, guests::REWRITE_FIRST).component().unwrap()
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn leb(mut value: usize, bytes: &mut Vec<u8>) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A section of a module or a component.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    leb(content.len(), &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// A component of one core module with functions that take and return nothing.
fn with_functions(count: usize, body: &[u8]) -> Vec<u8> {
    let (mut types, mut code) = (Vec::new(), Vec::new());
    leb(count, &mut types);
    leb(count, &mut code);
    types.resize(types.len() + count, 0);
    for _ in 0..count {
        leb(body.len(), &mut code);
        code.extend_from_slice(body);
    }
    let sections = [section(1, b"\x01\x60\0\0"), section(3, &types), section(10, &code)].concat();
    let module = [&b"\0asm\x01\0\0\0"[..], &sections].concat();
    [&b"\0asm\x0d\0\x01\0"[..], &section(1, &module)].concat()
}

#[test]
fn a_guest_is_described_by_its_exports_and_imports() {
    let inspection = Inspection::of(&guest()).unwrap();
    let mut exports = inspection.exports.clone();
    exports.sort();
    assert_eq!(exports, ["yardarm:plugin/lifecycle@0.1.0", "yardarm:plugin/payload-transform@0.1.0"]);
    let import = |name: &str, has_only_types| Import { name: format!("yardarm:plugin/{name}@0.1.0"), has_only_types };
    assert!(inspection.imports.contains(&import("types", true)), "{:?}", inspection.imports);
    assert!(inspection.imports.contains(&import("items", false)), "{:?}", inspection.imports);
    assert!((100..100_000).contains(&inspection.complexity), "{}", inspection.complexity);
}

#[test]
fn only_an_interface_without_functions_and_resources_needs_no_implementation() {
    let bytes = component(
        r#"(component
            (import "a:b/types" (instance (type (record (field "x" u8))) (export "r" (type (eq 0)))))
            (import "a:b/resources" (instance (export "r" (type (sub resource)))))
            (import "a:b/functions" (instance (export "f" (func))))
            (import "plain" (func)))"#,
    );
    let imports = Inspection::of(&bytes).unwrap().imports;
    let found: Vec<_> = imports.iter().map(|import| (&*import.name, import.has_only_types)).collect();
    let expected = [("a:b/types", true), ("a:b/resources", false), ("a:b/functions", false), ("plain", false)];
    assert_eq!(found, expected);
}

#[test]
fn names_of_nested_components_are_not_those_of_the_component() {
    let nested = r#"(component (component (import "inner" (func)) (export "out" (func 0))) (core module))"#;
    let inspection = Inspection::of(&component(nested)).unwrap();
    assert!(inspection.exports.is_empty() && inspection.imports.is_empty());
}

#[test]
fn the_complexity_is_that_of_the_function_with_the_most_code_and_locals() {
    let complexity = |text: &str| Inspection::of(&component(text)).unwrap().complexity;
    assert_eq!(complexity("(component (core module (func)))"), 2);
    // One byte for the number of groups of locals, two for each group, and the end.
    let text = "(component (core module (func nop nop nop) (func (local i32 i32 i64))))";
    assert_eq!(complexity(text), 6 * 4);
}

#[test]
fn self_descriptions_are_found_at_any_depth() {
    let bytes = component(
        r#"(component
            (core module (@custom "yardarm:manifest" "core") (@custom "other" "no"))
            (component (core module (@custom "yardarm:manifest" "nested"))))"#,
    );
    let bytes = [bytes, section(0, b"\x10yardarm:manifestouter")].concat();
    let manifests = Inspection::of(&bytes).unwrap().manifests;
    assert_eq!(manifests, [b"outer"[..].into(), b"core"[..].into(), b"nested"[..].into()], "its own comes first");
    let many = [bytes, section(0, b"\x10yardarm:manifestx").repeat(20)].concat();
    let text = Inspection::of(&many).unwrap_err().to_string();
    assert_eq!(text, "the component has 17 sections `yardarm:manifest`, 16 are allowed");
}

#[test]
fn absurd_figures_are_rejected_with_the_figure_and_the_limit() {
    let repeated = |item: &str, count: usize| component(&format!("(component {})", item.repeat(count)));
    let instances = format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(201));
    let imports: String = (0..1_001).map(|it| format!("(import \"f{it}\" (func))")).collect();
    for (bytes, text) in [
        (repeated("(core module)", 201), "the component has 201 core modules, 200 are allowed"),
        (repeated("(component)", 200), "the component has 201 nested components, 200 are allowed"),
        (component(&instances), "the component has 201 core instances, 200 are allowed"),
        (component(&format!("(component {imports})")), "the component has 1001 imports and exports, 1000 are allowed"),
        (with_functions(250_001, b"\0\x0b"), "the component has 250001 functions, 250000 are allowed"),
        (
            with_functions(1, &vec![1; (1 << 20) + 1]),
            "the component has 1048577 bytes in one function, 1048576 are allowed",
        ),
    ] {
        let error = Inspection::of(&bytes).unwrap_err();
        assert_eq!((error.code(), error.class(), &*error.to_string()), ("L02", "too-large", text));
    }
    for bytes in [repeated("(core module)", 200), with_functions(250_000, b"\0\x0b")] {
        Inspection::of(&bytes).unwrap();
    }
}

#[test]
fn a_component_that_is_cut_off_anywhere_is_invalid_or_exports_less() {
    let guest = guest();
    let complete = Inspection::of(&guest).unwrap();
    for end in (0..guest.len()).step_by(7) {
        match Inspection::of(&guest[..end]) {
            // At the end there are only custom sections, without which it is the same component.
            Ok(cut) if cut.exports == complete.exports => assert_eq!(cut.imports, complete.imports, "{end}"),
            Ok(cut) => assert!(cut.exports.len() < complete.exports.len(), "{end}"),
            Err(error) => assert!(["L01", "L03"].contains(&error.code()), "{end}: {error}"),
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_inspection_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let component = [&b"\0asm\x0d\0\x01\0"[..], &bytes].concat();
        let _ = (Inspection::of(&bytes), Inspection::of(&component));
    }

    #[test]
    fn no_change_of_a_component_makes_the_inspection_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = guest();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = Inspection::of(&bytes);
    }
}
