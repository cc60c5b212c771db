//! What comments and documents refer to is in the repository.

use std::collections::BTreeSet;

use regex::Regex;

use super::{root, sources};

#[test]
fn rows_are_explained_in_the_compatibility_pages() {
    let row = Regex::new(r"\b[LUVF]\d{3}\b").expect("a pattern");
    let pages = ["launchdarkly", "harness"].map(|vendor| {
        let path = root().join(format!("docs/compatibility/{vendor}.md"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    let explained: BTreeSet<&str> = pages
        .iter()
        .flat_map(|page| page.lines().filter(|line| line.starts_with("| ")))
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .collect();
    let mut cited = 0;
    for folder in ["host", "plugins", "tests", "wit"] {
        for (path, text) in sources(folder) {
            for found in row.find_iter(&text) {
                cited += 1;
                let id = found.as_str();
                assert!(explained.contains(id), "{}: {id} has no line in docs/compatibility", path.display());
            }
        }
    }
    assert!(cited > 500, "rows are cited in tests: {cited}");
}

#[test]
fn no_comment_cites_a_page_that_is_not_here() {
    let citation = Regex::new(
        r"(?i)section \d|§|\b(?:compatibility|upstream|operation|downstream|evaluation) page\b|\bplugin design\b|architecture\.md's|shared/specs",
    )
    .expect("a pattern");
    let mut dangling = Vec::new();
    for folder in ["host", "plugins", "tests", "wit"] {
        for (path, text) in sources(folder) {
            if path.ends_with("references.rs") {
                continue;
            }
            for (index, line) in text.lines().enumerate() {
                // Standards are cited by section.
                if let Some(found) = citation.find(line).filter(|_| !line.contains("RFC")) {
                    dangling.push(format!("{}:{}: {}", path.display(), index + 1, found.as_str()));
                }
            }
        }
    }
    assert!(
        dangling.is_empty(),
        "cite a row of docs/compatibility, or say what the page says:\n{}",
        dangling.join("\n")
    );
}

#[test]
fn files_named_in_the_documents_exist() {
    let path = Regex::new(r"`((?:host|plugins|tests|wit|examples|docs)/[\w./-]*)[^`]*`").expect("a pattern");
    for document in ["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "docs/decisions.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        for found in path.captures_iter(&text) {
            let named = found[1].trim_end_matches(['.', ':']);
            assert!(root().join(named).exists(), "{document} names {named}, which does not exist");
        }
    }
}
