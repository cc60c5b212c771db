//! `docs/plugin-interface.md`, the reference of the interface of plugins, is generated from `wit/`.

mod wit;

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use self::wit::{Package, Part};
use super::{assert_document, root};

/// Before the tables and interfaces.
const INTRO: &str = "\
# The interface of plugins

The hooks that a plugin can export, the interfaces that it can import, and their types, generated from the files in
[`wit/v0.1`](../wit/v0.1), which `yardarm plugin wit` prints or writes for a toolchain. [plugins/README.md](../plugins/README.md)
explains how a plugin is written, built and loaded, and [bindings.md](bindings.md) has the keys of its binding file.

";

/// Before the table of grants.
const GRANTS_INTRO: &str = "
## Grants

What a plugin may read and use is decided by `grants` in its binding file. What is not in this table needs no grant. Without the
grant, a function returns nothing, and the missing grant is reported; a plugin that imports `clock`, `kv` or `http` is not loaded
without it.

";

/// Before the values.
const VALUES_INTRO: &str = "
## Values

| What | Values |
|---|---|
| `vendor` | `launchdarkly`, `harness` |
| `sdk` of a request | `server`, `mobile`, `client`; Harness has no kind of its own for mobile SDKs |
| `kind` of an item of flag data | `flag`, `segment` |
| kind of a context | LaunchDarkly: `user` and others that the customer defines; Harness: `target` |

The routes, as `request.route` returns them and as `routes` of a binding file matches them. [routes.md](routes.md) has their
paths.

| Route | LaunchDarkly | Harness |
|---|---|---|
";

fn package() -> Package {
    Package::read(&root().join("wit/v0.1"))
}

#[test]
fn the_reference_of_the_interface_is_generated_from_wit() {
    assert_document("docs/plugin-interface.md", &reference(&package()));
}

#[test]
fn everything_in_the_interface_is_documented() {
    let undocumented = package().undocumented();
    assert!(undocumented.is_empty(), "write a comment for each:\n{}", undocumented.join("\n"));
}

/// The table of grants is as complete as that of the host.
#[test]
fn the_interface_names_every_grant_that_reads_something() {
    let bindings = std::fs::read_to_string(root().join("docs/bindings.md")).expect("a document");
    let table = bindings.split_once("| Grant | Gives |\n|---|---|\n").expect("the table of grants").1;
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once('`'));
    // What these give is not read through the interface: the numbers are those of WASI, and a secret is in the configuration.
    let others = ["random", "secret:<name>", "log", "metrics"];
    let expected: BTreeSet<&str> = rows.map(|(grant, _)| grant).filter(|grant| !others.contains(grant)).collect();
    let package = package();
    let grants = grants(&package);
    assert_eq!(grants.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
}

fn reference(package: &Package) -> String {
    let mut text = INTRO.to_owned();
    for (title, part) in [("Hooks", Part::Hook), ("Imports", Part::Import), ("Types", Part::Types)] {
        text += &format!("- {title}: {}\n", package.links(part).join(", "));
    }
    text += GRANTS_INTRO;
    text += "| Grant | Needed by |\n|---|---|\n";
    for (grant, places) in grants(package) {
        text += &format!("| `{grant}` | {} |\n", places.join(", "));
    }
    text += VALUES_INTRO;
    for (route, vendors) in routes() {
        let cell = |index: usize| if vendors[index] { "yes" } else { "" };
        text += &format!("| `{route}` | {} | {} |\n", cell(0), cell(1));
    }
    for (title, part) in [("Hooks", Part::Hook), ("Imports", Part::Import), ("Types", Part::Types)] {
        text += &format!("\n## {title}\n{}", package.interfaces(part));
    }
    text + &format!("\n## Worlds\n\n{}", package.worlds())
}

/// Returns where the documentation of the interface names each grant.
fn grants(package: &Package) -> BTreeMap<String, Vec<String>> {
    let grant = Regex::new(r"[Gg]rant\s+`([^`]+)`").expect("a pattern");
    let mut grants: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (place, docs) in package.documented() {
        for found in grant.captures_iter(&docs) {
            let places = grants.entry(found[1].to_owned()).or_default();
            if !places.contains(&place) {
                places.push(place.clone());
            }
        }
    }
    grants
}

/// Returns all route IDs, and which of the vendors have them.
fn routes() -> BTreeMap<String, [bool; 2]> {
    let mut routes: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    let documents = [yardarm_launchdarkly::routes_document(), yardarm_harness::routes_document()];
    let id = Regex::new(r"`((?:server|mobile|client)\.[a-z.]+)`").expect("a pattern");
    for (index, document) in documents.iter().enumerate() {
        for found in id.captures_iter(document) {
            routes.entry(found[1].to_owned()).or_default()[index] = true;
        }
    }
    routes
}
