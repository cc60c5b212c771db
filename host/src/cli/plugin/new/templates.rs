//! The files of a new plugin, from the templates in this program.

use super::{HookName, Language};

/// Texts of the templates of one hook.
struct HookTexts {
    manifest: &'static str,
    binding: &'static str,
    cases: &'static str,
    rust: &'static str,
    js: &'static str,
    python: &'static str,
}

macro_rules! template {
    ($path:expr) => {
        include_str!(concat!("../templates/", $path))
    };
}

macro_rules! hook_texts {
    ($hook:literal) => {
        &HookTexts {
            manifest: template!(concat!("hooks/", $hook, "/manifest.json")),
            binding: template!(concat!("hooks/", $hook, "/binding.toml")),
            cases: template!(concat!("hooks/", $hook, "/cases.jsonl")),
            rust: template!(concat!("rust/", $hook, ".rs")),
            js: template!(concat!("js/", $hook, ".mjs")),
            python: template!(concat!("python/", $hook, ".py")),
        }
    };
}

/// A template with its values.
pub(super) struct Template {
    language: Language,
    hook: &'static HookTexts,
    name: String,
    values: Vec<(&'static str, String)>,
}

impl Template {
    /// Chooses the template; `sdk` is the dependency on the SDK of Rust.
    pub(super) fn new(name: &str, language: Language, hook: HookName, sdk: String) -> Self {
        let (hook_name, about, texts) = match hook {
            HookName::RequestAuth => {
                ("request-auth", "Admits callers that present a token", hook_texts!("request-auth"))
            }
            HookName::EventFilter => ("event-filter", "Drops events of some kinds", hook_texts!("event-filter")),
            HookName::PayloadTransform => {
                ("payload-transform", "Hides flags with a prefix", hook_texts!("payload-transform"))
            }
            HookName::ContextEnrichment => (
                "context-enrichment",
                "Tells flags the country that a proxy has found",
                hook_texts!("context-enrichment"),
            ),
            HookName::EvaluationTransform => {
                ("evaluation-transform", "Hides results of flags with a prefix", hook_texts!("evaluation-transform"))
            }
        };
        // Interpreters need more time for each call, and Python more memory.
        let (language_name, needs, limits) = match language {
            Language::Rust => ("Rust", "Rust with the target `wasm32-wasip2`", ""),
            Language::Js => ("JavaScript", "node 18 or later with `npm`", "\nlimits = { deadline_ms = 100 }"),
            Language::Python => ("Python", "Python 3.10 or later", "\nlimits = { deadline_ms = 200, memory_mb = 256 }"),
        };
        let profile = if language == Language::Python { "\nprofile = \"large\"" } else { "" };
        let values = [
            ("name", name.to_owned()),
            ("crate", name.replace('-', "_")),
            ("hook", hook_name.to_owned()),
            ("about", about.to_owned()),
            ("language", language_name.to_owned()),
            ("needs", needs.to_owned()),
            ("limits", limits.to_owned()),
            ("profile", profile.to_owned()),
            ("sdk", sdk),
        ];
        Self { language, hook: texts, name: name.to_owned(), values: values.into() }
    }

    /// Returns whether the language needs the files of the interface: the crate for Rust carries them itself.
    pub(super) fn has_wit(&self) -> bool {
        self.language != Language::Rust
    }

    /// Returns the files, except for the interface, with their paths in the folder of the plugin.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let hook = self.hook;
        let name = &self.name;
        let mut files = vec![
            ("README.md".to_owned(), template!("README.md")),
            ("manifest.json".to_owned(), hook.manifest),
            (format!("{name}.toml"), hook.binding),
            (format!("{name}.cases.jsonl"), hook.cases),
        ];
        if self.has_wit() {
            files.push(("wit/world.wit".to_owned(), template!("world.wit.in")));
        }
        let own: &[(&str, &str)] = match self.language {
            Language::Rust => &[
                ("Cargo.toml", template!("rust/Cargo.toml")),
                ("src/lib.rs", hook.rust),
                ("Makefile", template!("rust/Makefile")),
                (".gitignore", template!("rust/gitignore")),
            ],
            Language::Js => &[
                ("package.json", template!("js/package.json")),
                ("plugin.mjs", hook.js),
                ("Makefile", template!("js/Makefile")),
                (".gitignore", template!("js/gitignore")),
            ],
            Language::Python => &[
                ("requirements.txt", template!("python/requirements.txt")),
                ("app.py", hook.python),
                ("Makefile", template!("python/Makefile")),
                (".gitignore", template!("python/gitignore")),
            ],
        };
        files.extend(own.iter().map(|(path, text)| ((*path).to_owned(), *text)));
        files.into_iter().map(|(path, text)| (path, self.filled(text))).collect()
    }

    /// Replaces `{{name}}` and the other placeholders by their values.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (key, value) in &self.values {
            text = text.replace(&format!("{{{{{key}}}}}"), value);
        }
        text
    }
}
