//! Names and prose: what is called a boolean is one, and comments are written in plain technical English.

use regex::Regex;

use super::sources;

/// Folders with sources of ours.
const FOLDERS: [&str; 4] = ["host", "plugins", "tests", "wit"];

/// Words that stand for people where the subject is a program. Ten times more frequent here than in axum, tokio, hyper and
/// wasmtime once; now as rare as there.
const AVOIDED: &str = r"(?i)\b(?:nobody|whoever|somebody|told|said|asked|hears|what is said|one that|if it is to)\b";
/// Most of these words in ten thousand words of comments.
const MOST_AVOIDED: f64 = 2.0;

#[test]
fn predicates_return_bool() {
    let function = Regex::new(
        r"\bfn\s+((?:is|has|are|was|were)_\w+)\s*(?:<[^>]*>)?\(([^()]*(?:\([^()]*\)[^()]*)*)\)\s*(->\s*[^{;]+)?",
    )
    .expect("a pattern");
    let mut acting = Vec::new();
    for folder in FOLDERS {
        for (path, text) in sources(folder) {
            // Names of tests are sentences.
            let is_test = |start: usize| text[..start].trim_end().ends_with(']') && text[..start].rfind("#[").is_some();
            for found in function.captures_iter(&text) {
                let (name, returned) = (&found[1], found.get(3).map_or("", |it| it.as_str()));
                let start = found.get(0).map_or(0, |it| it.start());
                let line = text[..start].rfind('\n').map_or(0, |it| it + 1);
                if !returned.contains("bool") && !is_test(line) {
                    acting.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(acting.is_empty(), "name what acts by a verb in the imperative:\n{}", acting.join("\n"));
}

#[test]
fn comments_have_subjects() {
    let avoided = Regex::new(AVOIDED).expect("a pattern");
    let (mut words, mut found) = (0, Vec::new());
    for folder in FOLDERS {
        for (path, text) in sources(folder) {
            for (number, comment) in comments(&text) {
                words += comment.split_whitespace().count();
                let hits = avoided.find_iter(comment);
                found.extend(hits.map(|it| format!("{}:{number}: {}", path.display(), it.as_str())));
            }
        }
    }
    assert!(words > 10_000, "comments are found");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = found.len() as f64 * 10_000.0 / words as f64;
    assert!(rate < MOST_AVOIDED, "{rate:.1} avoided words in 10,000 words of comments:\n{}", found.join("\n"));
}

/// The comments of a file with their line numbers.
fn comments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let rest = line.trim_start().strip_prefix("//")?;
        Some((index + 1, rest.trim_start_matches(['/', '!']).trim()))
    })
}

#[test]
fn every_file_begins_with_its_subject() {
    for folder in ["host", "tests"] {
        for (path, text) in sources(folder) {
            let is_test = path.ends_with("tests.rs") || path.parent().is_some_and(|it| it.ends_with("tests"));
            assert!(text.starts_with("//!") || is_test, "{} has no module documentation", path.display());
        }
    }
}
