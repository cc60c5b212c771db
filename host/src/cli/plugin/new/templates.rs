//! The files of a new plugin, from the templates in this program.

use super::{HookName, Language};

/// Texts of the templates of one hook.
struct HookTexts {
    name: &'static str,
    about: &'static str,
    /// What the world of the component includes and imports.
    world: &'static [&'static str],
    /// The field of the configuration, in Go.
    go_setting: &'static str,
    manifest: &'static str,
    binding: &'static str,
    cases: &'static str,
    rust: &'static str,
    js: &'static str,
    python: &'static str,
    go: &'static str,
    c: &'static str,
    wat: &'static str,
}

macro_rules! template {
    ($path:expr) => {
        include_str!(concat!("../templates/", $path))
    };
}

/// A file of the examples, which new plugins get as it is.
macro_rules! example {
    ($path:expr) => {
        include_str!(concat!("../../../../../examples/plugins/", $path))
    };
}

macro_rules! hook_texts {
    ($hook:literal, $about:literal, $world:expr, $go_setting:literal) => {
        &HookTexts {
            name: $hook,
            about: $about,
            world: &$world,
            go_setting: $go_setting,
            manifest: template!(concat!("hooks/", $hook, "/manifest.json")),
            binding: template!(concat!("hooks/", $hook, "/binding.toml")),
            cases: template!(concat!("hooks/", $hook, "/cases.jsonl")),
            rust: template!(concat!("rust/", $hook, ".rs")),
            js: template!(concat!("js/", $hook, ".mjs")),
            python: template!(concat!("python/", $hook, ".py")),
            go: template!(concat!("go/", $hook, ".go")),
            c: template!(concat!("c/", $hook, ".c")),
            wat: template!(concat!("wat/", $hook, ".wat")),
        }
    };
}

/// What differs between languages, besides the source.
struct LanguageTexts {
    name: &'static str,
    /// What has to be installed.
    needs: &'static str,
    /// Deadline of hooks that callers wait for, in milliseconds: interpreters need more time for each call.
    deadline_ms: Option<u32>,
    /// Memory, in MiB, if it is more than usual.
    memory_mb: Option<u32>,
    /// Whether the component is larger than usual.
    is_large: bool,
    /// Lines at the end of the README.
    notes: &'static str,
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
        let hook = hook.texts();
        let texts = language.texts();
        let values = [
            ("prelude", template!("wat/prelude.wat").to_owned()),
            ("name", name.to_owned()),
            ("crate", name.replace('-', "_")),
            ("hook", hook.name.to_owned()),
            ("hook_file", hook.name.replace('-', "_")),
            ("about", hook.about.to_owned()),
            ("world", hook.world.join("\n    ")),
            ("go_setting", hook.go_setting.to_owned()),
            ("language", texts.name.to_owned()),
            ("needs", texts.needs.to_owned()),
            ("limits", texts.limits(texts.deadline_ms)),
            ("long_limits", texts.limits(None)),
            ("profile", if texts.is_large { "\nprofile = \"large\"" } else { "" }.to_owned()),
            ("notes", texts.notes.to_owned()),
            ("sdk", sdk),
        ];
        Self { language, hook, name: name.to_owned(), values: values.into() }
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
        files.extend(self.sources().into_iter().map(|(path, text)| (path.to_owned(), text)));
        files
            .into_iter()
            .map(|(path, text)| (self.filled(&path), self.filled(text).trim_end().to_owned() + "\n"))
            .collect()
    }

    /// Returns the files of the language.
    fn sources(&self) -> Vec<(&'static str, &'static str)> {
        let hook = self.hook;
        match self.language {
            Language::Rust => vec![
                ("Cargo.toml", template!("rust/Cargo.toml")),
                ("src/lib.rs", hook.rust),
                ("Makefile", template!("rust/Makefile")),
                (".gitignore", template!("rust/gitignore")),
            ],
            Language::Js => vec![
                ("package.json", template!("js/package.json")),
                ("plugin.mjs", hook.js),
                ("Makefile", template!("js/Makefile")),
                (".gitignore", template!("js/gitignore")),
            ],
            Language::Python => vec![
                ("requirements.txt", template!("python/requirements.txt")),
                ("app.py", hook.python),
                ("Makefile", template!("python/Makefile")),
                (".gitignore", template!("python/gitignore")),
            ],
            Language::Go => {
                let mut files = vec![
                    ("go.mod", template!("go/go.mod")),
                    ("go.sum", example!("go/go.sum")),
                    ("main.go", template!("go/main.go")),
                    ("config/config.go", template!("go/config.go")),
                    ("memory/memory.go", template!("go/memory.go")),
                    ("export_yardarm_plugin_lifecycle/init.go", template!("go/lifecycle.go")),
                    ("export_yardarm_plugin_{{hook_file}}/hook.go", hook.go),
                    ("install.sh", example!("install.sh")),
                    ("Makefile", template!("go/Makefile")),
                    (".gitignore", template!("go/gitignore")),
                ];
                if hook.name == "background" {
                    files.push(("export_yardarm_plugin_request_auth/hook.go", template!("go/background-auth.go")));
                }
                files
            }
            Language::C => vec![
                ("plugin.c", hook.c),
                ("config.h", template!("c/config.h")),
                ("config.c", template!("c/config.c")),
                ("json.h", example!("c/json.h")),
                ("json.c", example!("c/json.c")),
                ("install.sh", example!("install.sh")),
                ("Makefile", template!("c/Makefile")),
                (".gitignore", template!("c/gitignore")),
            ],
            Language::Wat => vec![
                ("plugin.wat", hook.wat),
                ("install.sh", example!("install.sh")),
                ("Makefile", template!("wat/Makefile")),
                (".gitignore", template!("wat/gitignore")),
            ],
        }
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

impl HookName {
    fn texts(self) -> &'static HookTexts {
        match self {
            Self::RequestAuth => hook_texts!(
                "request-auth",
                "Admits callers that present a token",
                ["include yardarm:plugin/request-auth-plugin@0.1.0;"],
                "Token string `json:\"token\"`"
            ),
            Self::EventFilter => hook_texts!(
                "event-filter",
                "Drops events of some kinds",
                ["include yardarm:plugin/event-filter-plugin@0.1.0;"],
                "DropKinds []string `json:\"drop_kinds\"`"
            ),
            Self::PayloadTransform => hook_texts!(
                "payload-transform",
                "Hides flags with a prefix",
                ["include yardarm:plugin/payload-transform-plugin@0.1.0;"],
                "HidePrefix string `json:\"hide_prefix\"`"
            ),
            Self::ContextEnrichment => hook_texts!(
                "context-enrichment",
                "Tells flags the country that a proxy has found",
                ["include yardarm:plugin/context-enrichment-plugin@0.1.0;"],
                "Kind string `json:\"kind\"`"
            ),
            Self::EvaluationTransform => hook_texts!(
                "evaluation-transform",
                "Hides results of flags with a prefix",
                ["include yardarm:plugin/evaluation-transform-plugin@0.1.0;"],
                "HidePrefix string `json:\"hide_prefix\"`"
            ),
            Self::Background => hook_texts!(
                "background",
                "Admits callers that present a token of a list, which it downloads",
                [
                    "include yardarm:plugin/background-plugin@0.1.0;",
                    "include yardarm:plugin/request-auth-plugin@0.1.0;",
                    "import yardarm:plugin/http@0.1.0;",
                ],
                "Url string `json:\"url\"`"
            ),
            Self::ChangeListener => hook_texts!(
                "change-listener",
                "Posts which flags have changed",
                ["include yardarm:plugin/change-listener-plugin@0.1.0;", "import yardarm:plugin/http@0.1.0;",],
                "Url string `json:\"url\"`"
            ),
            Self::RouteResolver => hook_texts!(
                "route-resolver",
                "Chooses the environment of the tenant that a proxy names",
                ["include yardarm:plugin/route-resolver-plugin@0.1.0;"],
                "Prefix string `json:\"prefix\"`"
            ),
        }
    }
}

impl Language {
    fn texts(self) -> LanguageTexts {
        const USUAL: LanguageTexts =
            LanguageTexts { name: "", needs: "", deadline_ms: None, memory_mb: None, is_large: false, notes: "" };
        const TOOLS: &str = "\
- `install.sh` installs the tools into `.tools`, or into the folder in `YARDARM_TOOLS`, which several plugins can share. The
  first time takes some minutes.";
        match self {
            Self::Rust => LanguageTexts { name: "Rust", needs: "Rust with the target `wasm32-wasip2`", ..USUAL },
            Self::Js => LanguageTexts {
                name: "JavaScript",
                needs: "node 18 or later with `npm`",
                deadline_ms: Some(100),
                ..USUAL
            },
            Self::Python => LanguageTexts {
                name: "Python",
                needs: "Python 3.10 or later",
                deadline_ms: Some(200),
                memory_mb: Some(256),
                is_large: true,
                ..USUAL
            },
            Self::Go => LanguageTexts {
                name: "Go",
                needs: "Go 1.25 or later, `cargo` for the tools",
                deadline_ms: Some(100),
                notes: TOOLS,
                ..USUAL
            },
            Self::C => LanguageTexts {
                name: "C",
                needs: "Python 3 for the compiler, `cargo` for the tools",
                notes: TOOLS,
                ..USUAL
            },
            Self::Wat => {
                LanguageTexts { name: "WebAssembly text", needs: "`cargo` for the tools", notes: TOOLS, ..USUAL }
            }
        }
    }
}

impl LanguageTexts {
    /// Returns the line with the limits of a binding, or nothing if they are the usual ones.
    fn limits(&self, deadline_ms: Option<u32>) -> String {
        let limits = [("deadline_ms", deadline_ms), ("memory_mb", self.memory_mb)];
        let set: Vec<String> =
            limits.iter().filter_map(|(key, value)| Some(format!("{key} = {}", (*value)?))).collect();
        if set.is_empty() { String::new() } else { format!("\nlimits = {{ {} }}", set.join(", ")) }
    }
}
