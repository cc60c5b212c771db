//! Inside a crate, a module uses only modules above it in `lib.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{root, sources};

/// Crates whose modules are in layers.
const CRATES: [&str; 9] = [
    "host/core/src",
    "host/fleet/src",
    "host/harness-eval/src",
    "host/harness/src",
    "host/launchdarkly-eval/src",
    "host/launchdarkly/src",
    "host/src",
    "host/vendor/src",
    "host/wasm/src",
];

#[test]
fn a_module_uses_only_modules_above_it() {
    let mut upward = Vec::new();
    for folder in CRATES {
        let order = layers(&root().join(folder).join("lib.rs"));
        assert!(order.len() > 1, "{folder}: no modules found");
        for (path, text) in sources(folder) {
            let relative = path.strip_prefix(root().join(folder)).expect("a file of the crate").to_owned();
            let Some(position) = order.iter().position(|it| *it == top_module(&relative)) else { continue };
            for used in used_modules(&text, &relative) {
                let is_above = order.iter().position(|it| *it == used).is_none_or(|it| it <= position);
                if !is_above {
                    upward.push(format!("{}: `{used}` stands below `{}`", path.display(), order[position]));
                }
            }
        }
    }
    assert!(upward.is_empty(), "move what is needed up, or the module down:\n{}", upward.join("\n"));
}

/// The modules of a crate in the order in which `lib.rs` declares them.
fn layers(lib: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(lib).unwrap_or_else(|error| panic!("{}: {error}", lib.display()));
    let name = |line: &str| {
        let rest = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("pub(crate) mod "));
        let name = rest.or_else(|| line.strip_prefix("mod "))?.strip_suffix(';')?;
        Some(name.to_owned())
    };
    // Tests and fuzzing may reach everything.
    text.lines().filter_map(name).filter(|it| it != "tests" && it != "fuzzing").collect()
}

fn top_module(relative: &Path) -> String {
    let first = relative.components().next().expect("a path").as_os_str().to_string_lossy().into_owned();
    first.strip_suffix(".rs").map_or(first.clone(), str::to_owned)
}

/// Top-level modules that a file refers to by `crate::`, outside of its unit tests. `super` cannot leave the top-level
/// module of a file that is not itself one, and the top of a module uses `crate::` by convention.
fn used_modules(text: &str, relative: &Path) -> BTreeSet<String> {
    let is_test = relative.components().any(|it| it.as_os_str() == "tests") || relative.ends_with("tests.rs");
    let mut used = BTreeSet::new();
    if is_test {
        return used;
    }
    let code: String = code_of(text);
    for (index, _) in code.match_indices("crate::") {
        let before = code[..index].chars().next_back();
        // `yardarm_core::` and `$crate::` are other paths.
        if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == '$' || it == ':') {
            continue;
        }
        let rest = &code[index + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => used.extend(names_of_list(list)),
            None => used.extend(Some(identifier(rest)).filter(|it| !it.is_empty())),
        }
    }
    used
}

/// The first names of the entries of `{a::{b, c}, d}`, behind the opening brace.
fn names_of_list(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut is_start) = (0, Vec::new(), true);
    for (index, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            it if is_start && !it.is_whitespace() => {
                names.push(identifier(&list[index..]));
                is_start = false;
            }
            _ => (),
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect()
}

/// A file without comments and without the unit tests at its end.
fn code_of(text: &str) -> String {
    let lines =
        text.lines().take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(fuzzing)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::a::B;\nuse crate::{c::{D, E}, f};\nlet x = crate::g::h();\nuse yardarm_core::i;\n// crate::j\n\
                #[cfg(test)]\nuse crate::k;";
    let used = used_modules(text, Path::new("x.rs"));
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["a", "c", "f", "g"]);
    assert_eq!(top_module(Path::new("a/b.rs")), "a");
    assert_eq!(top_module(Path::new("a.rs")), "a");
}
