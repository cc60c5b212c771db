//! The example plugins in every language: the same cases, and the same events of a running gateway.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use yardarm_testkit::{Call, until};

use super::Plugged;
use crate::program::run;
use crate::running::{SDK_KEY, Setup};
use crate::sdks::data;

/// An example plugin.
struct Example {
    language: &'static str,
    /// Whether it reads the content of events; the one in WebAssembly text decides by their kinds.
    reads_bodies: bool,
}

const EXAMPLES: [Example; 6] = [
    Example { language: "rust", reads_bodies: true },
    Example { language: "javascript", reads_bodies: true },
    Example { language: "python", reads_bodies: true },
    Example { language: "go", reads_bodies: true },
    Example { language: "c", reads_bodies: true },
    Example { language: "wat", reads_bodies: false },
];

impl Example {
    fn name(&self) -> String {
        format!("{}-event-filter", self.language)
    }

    /// Returns the component and its binding file; `None` with a note if it is not built, which fails in CI.
    #[expect(clippy::print_stderr, reason = "a skipped test prints a note")]
    fn files(&self) -> Option<(Vec<u8>, String)> {
        let folder = folder().join(self.language);
        let binding = fs::read_to_string(folder.join(format!("{}.toml", self.name()))).expect("a binding file");
        let Ok(component) = fs::read(folder.join(format!("{}.wasm", self.name()))) else {
            let language = self.language;
            assert!(std::env::var_os("CI").is_none(), "the example in {language} is not built: `make example-plugins`");
            eprintln!("skipped: the example in {language} is not built, run `make example-plugins`");
            return None;
        };
        Some((component, binding))
    }

    /// Returns the binding file with kinds and attribute of this language only.
    fn bound(&self, binding: &str) -> String {
        let language = self.language;
        binding
            .replace(r#"["click", "pageview"]"#, &format!(r#"["drop-{language}"]"#))
            .replace(r#""email""#, &format!(r#""attribute-{language}""#))
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/plugins")
}

#[test]
fn every_language_passes_the_same_cases() {
    let [all, bodies] = ["event-filter", "event-bodies"]
        .map(|name| fs::read_to_string(folder().join(format!("{name}.cases.jsonl"))).expect("cases"));
    let dir = TempDir::new().expect("a folder");
    for example in &EXAMPLES {
        let Some((component, binding)) = example.files() else { continue };
        let cases = if example.reads_bodies { format!("{all}{bodies}") } else { all.clone() };
        let name = example.name();
        for (file, content) in [
            (format!("{name}.wasm"), component),
            (format!("{name}.toml"), binding.into_bytes()),
            (format!("{name}.cases.jsonl"), cases.clone().into_bytes()),
        ] {
            fs::write(dir.path().join(file), content).expect("a file");
        }
        println!("{name}: {} cases", cases.lines().count());
        let (component, binding) = (format!("{name}.wasm"), format!("{name}.toml"));
        let tested = run(dir.path(), &["plugin", "--json", "test", &component, "--binding", &binding]);
        let document: Value = serde_json::from_slice(&tested.stdout).expect("JSON");
        let ran = document["cases"].as_array().map(Vec::len);
        let failed = document["cases"].as_array().into_iter().flatten().filter(|case| case["is_passed"] != true);
        assert!(tested.status.success(), "{name}: {document:#}");
        assert_eq!((ran, failed.count()), (Some(cases.lines().count()), 0), "{name}: {document:#}");
    }
}

/// Neither changed nor dropped by any of the plugins: an escaped name, a name twice, numbers that are not those of a
/// computer, nesting, and no kind.
const UNCHANGED: [&str; 2] = [
    r#"{"kind":"custom","creationDate":1,"key":"\u0062ought","n":[12345678901234567890123,1.10,1E+2],"twice":1,"twice":2}"#,
    r#"{"creationDate":2,"context":{"kind":"user","key":"b","a":[[[[[[[[[[[[[[[[[[[[{"b":"\ud83c\udf89<&>"}]]]]]]]]]]]]]]]]]]]]}}"#,
];

#[tokio::test]
async fn every_language_filters_the_events_of_a_gateway() {
    let examples: Vec<_> = EXAMPLES.iter().filter_map(|example| Some((example, example.files()?))).collect();
    let plugged = Plugged::start(Setup::with(data()).events(), |_| ()).await;
    let mut events: Vec<String> = UNCHANGED.map(str::to_owned).into();
    for (example, (component, binding)) in &examples {
        plugged.drops(&format!("{}.toml", example.name()), example.bound(binding));
        plugged.drops(&format!("{}.wasm", example.name()), component);
        events.extend(events_for(example.language));
    }
    for (example, _) in &examples {
        println!("loading {}", example.name());
        plugged.wait_until_active(&example.name()).await;
    }
    let call = Call::post("/bulk", format!("[{}]", events.join(","))).key(SDK_KEY);
    assert_eq!(plugged.gateway.answers(&call.header("X-LaunchDarkly-Event-Schema", "4")).await.status, 202);
    let upstream = &plugged.gateway.upstream;
    until("the events", || !upstream.posts("/bulk").is_empty()).await;
    let body = upstream.posts("/bulk")[0].body();
    let text = std::str::from_utf8(&body).expect("text");
    let arrived: Vec<Value> = serde_json::from_str(text).expect("JSON");
    for unchanged in UNCHANGED {
        assert!(text.contains(unchanged), "{unchanged} is not in {text}");
    }
    assert!(!text.contains("drop-"), "{text}");
    let answer = plugged.gateway.operator_gets("/metrics").await;
    let metrics = answer.text();
    for (example, _) in &examples {
        let language = example.language;
        let attribute = format!("attribute-{language}");
        let of: Vec<&Value> = arrived.iter().filter(|event| event["key"] == language).collect();
        assert_eq!(of.len(), 3, "{language}: {text}");
        let expected = if example.reads_bodies { "[redacted]" } else { "secret" };
        assert_eq!(of[0]["context"][&attribute], expected, "{language}: {text}");
        assert_eq!(of[1]["context"]["org"][&attribute], expected, "{language}: {text}");
        assert_eq!(of[2]["user"]["custom"][&attribute], expected, "{language}: {text}");
        assert_eq!(of[0]["context"]["name"], "Zoë 🎉", "{language}: {text}");
        let dropped = format!("yardarm_guest_{language}_event_filter_dropped_total 2\n");
        assert!(metrics.contains(&dropped), "{language}: {metrics}");
    }
}

/// Returns events that only the plugin in this language drops or changes.
fn events_for(language: &str) -> [String; 5] {
    let attribute = format!(r#""attribute-{language}":"secret""#);
    // The same name, the first time with an escape.
    let twice = format!(r#""\u0061ttribute-{language}":"secret",{attribute}"#);
    let event = |kind: &str, rest: &str| {
        format!(r#"{{"kind":"{kind}","creationDate":3,"key":"{language}","attribute-{language}":"kept",{rest}}}"#)
    };
    [
        event(&format!("drop-{language}"), r#""n":1"#),
        event(&format!(r"\u0064rop-{language}"), r#""n":2"#),
        event("custom", &format!(r#""context":{{"kind":"user","key":"a","name":"Zo\u00eb 🎉",{twice}}}"#)),
        event(
            "custom",
            &format!(r#""context":{{"kind":"multi","user":{{"key":"a"}},"org":{{"key":"o",{attribute}}}}}"#),
        ),
        event("identify", &format!(r#""user":{{"key":"a","custom":{{{attribute}}}}}"#)),
    ]
}
