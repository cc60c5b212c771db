//! The documentation matches the program: settings, shell lines, the demo, the page.

mod interface;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use yardarm_testkit::{Call, SseClient};

use crate::sdk::Sdk;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("a README")
}

/// Returns the text between `<!-- name -->` and `<!-- /name -->`.
fn section<'a>(text: &'a str, name: &str) -> &'a str {
    let start = text.split_once(&format!("<!-- {name} -->\n")).expect("the section begins").1;
    start.split_once(&format!("<!-- /{name} -->")).expect("the section ends").0
}

/// Compares a document with its generated content; `UPDATE_DOCS=1` writes it instead.
fn assert_document(path: &str, content: &str) {
    let file = root().join(path);
    let present = std::fs::read_to_string(&file).unwrap_or_default();
    if present != content && std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file, content).expect("the document is written");
        return;
    }
    assert_eq!(present, content, "{path}: run this test with UPDATE_DOCS=1 to write the document");
}

#[test]
fn the_table_of_settings_is_the_list_of_keys() {
    let mut table = String::from("| Key | Default | Meaning |\n|---|---|---|\n");
    for key in yardarm::config::keys() {
        let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
        table.push_str(&format!("| `{}` | {default} | {} |\n", key.path, key.about));
    }
    let text = readme();
    let framed = |content: &str| format!("<!-- settings -->\n{content}<!-- /settings -->");
    assert_document("README.md", &text.replace(&framed(section(&text, "settings")), &framed(&table)));
}

/// Before the tables of `docs/routes.md`.
const ROUTES_INTRO: &str = "\
# Routes

All paths that SDKs use, by vendor, and those for operators. The tables are generated from the route tables in
`host/launchdarkly/src/downstream/routes.rs` and `host/harness/src/downstream/routes.rs`, and from the description of the
admin listener, which it serves at `/api/openapi.json`.

Plugins, their bindings and metrics know a route by its ID. Routes without one need no credential, and no request plugin is
called for them.

";

#[test]
fn the_tables_of_routes_are_those_of_the_routers() {
    let vendors = [yardarm_launchdarkly::routes_document(), yardarm_harness::routes_document()];
    let tables = [&vendors[..], &[yardarm::admin::routes_document()]].concat();
    let document = format!("{ROUTES_INTRO}{}", tables.join("\n"));
    assert_document("docs/routes.md", &document);
}

/// Before the tables of `docs/metrics.md`.
const METRICS_INTRO: &str = "\
# Metrics

All metrics with their meaning. The tables are generated from the declarations in `host/core/src/metrics/catalog.rs` and in
`compat_metrics.rs` of each vendor's `downstream` folder.

";

#[test]
fn the_interface_of_plugins_lists_all_routes() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect(path);
    let id = regex::Regex::new(r"`((?:server|mobile|client)\.[a-z.]+)`").expect("a pattern");
    let ids = |text: &str| -> std::collections::BTreeSet<String> {
        id.captures_iter(text).map(|found| found[1].to_owned()).collect()
    };
    assert_eq!(ids(&read("wit/v0.1/request.wit")), ids(&read("docs/routes.md")));
}

/// Before the tables of `docs/bindings.md`.
const BINDINGS_INTRO: &str = "\
# Binding files

`NAME.toml` beside `NAME.wasm` defines where a plugin is called, what it may read and use, and its configuration (see
[plugins](../plugins/README.md)). The tables are generated from the JSON Schema that `yardarm plugin schema` prints, which is
also in [`binding.schema.json`](binding.schema.json): editors with a language server for TOML complete and check a file that
begins with `#:schema` and the path or address of the schema. All faults of a file are reported at once by
`yardarm plugin check`.

";

#[test]
fn the_reference_of_binding_files_is_their_schema() {
    assert_document("docs/bindings.md", &format!("{BINDINGS_INTRO}{}", yardarm_wasm::bindings_document()));
    assert_document("docs/binding.schema.json", &format!("{:#}\n", yardarm_wasm::binding_schema()));
}

#[test]
fn the_tables_of_metrics_are_their_declarations() {
    let tables = [
        yardarm_core::metrics::catalog::metrics_document(),
        yardarm_launchdarkly::metrics_document(),
        yardarm_harness::metrics_document(),
    ];
    let document = format!("{METRICS_INTRO}{}", tables.join("\n"));
    assert_document("docs/metrics.md", &document);
}

#[test]
fn no_path_belongs_to_both_vendors() {
    let paths = |document: String| {
        let path = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        document.lines().filter_map(path).collect::<Vec<_>>()
    };
    for path in paths(yardarm_launchdarkly::routes_document()) {
        assert!(!yardarm_harness::owns(&path), "{path}");
    }
    for path in paths(yardarm_harness::routes_document()) {
        assert!(yardarm_harness::owns(&path), "{path}");
    }
}

#[test]
fn the_cookbook_has_the_binding_files_of_its_plugins() {
    let mut text = std::fs::read_to_string(root().join("docs/cookbook.md")).expect("a cookbook");
    let folders = std::fs::read_dir(root().join("plugins/cookbook")).expect("a folder");
    let folders = folders.map(|entry| entry.expect("a folder").path()).chain([root().join("plugins/event-redactor")]);
    for folder in folders {
        let name = format!("{}.toml", folder.file_name().and_then(|name| name.to_str()).expect("text"));
        let binding = std::fs::read_to_string(folder.join(&name)).expect("a binding file");
        text = text.replace(section(&text, &name), &format!("```toml\n{binding}```\n"));
    }
    assert_document("docs/cookbook.md", &text);
}

#[test]
fn the_schema_of_settings_is_that_of_the_keys() {
    assert_document("docs/yardarm.schema.json", &yardarm::config::schema());
}

/// A running demo and its output so far.
struct Demo {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    printed: Vec<String>,
    plugins: PathBuf,
    _dir: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let plugins = dir.path().join("demo-plugins");
        let mut child = Command::new(env!("CARGO_BIN_EXE_yardarm"))
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--for", "120s"])
            .arg("--plugins")
            .arg(&plugins)
            .arg("--samples")
            .arg(root().join("plugins"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the demo starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut demo = Self { child, output, printed: Vec::new(), plugins, _dir: dir };
        demo.reads_until("look at the page.").await;
        demo
    }

    async fn reads_until(&mut self, text: &str) {
        let read = async {
            while let Some(line) = self.output.next_line().await.expect("a line") {
                self.printed.push(line);
                if self.printed.last().is_some_and(|line| line.contains(text)) {
                    return;
                }
            }
            panic!("the demo ended without printing `{text}`: {:#?}", self.printed);
        };
        timeout(Duration::from_secs(90), read).await.expect("the demo talks");
    }

    fn curl_lines(&self) -> Vec<String> {
        self.printed
            .iter()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|it| it.starts_with("curl"))
            .map(str::to_owned)
            .collect()
    }

    /// Returns the address of a listener, as printed by the demo.
    fn address(&self, before: &str) -> String {
        let line = self.printed.iter().find(|line| line.contains(before)).expect("the address is printed");
        let rest = line.split_once("http://").expect("an address").1;
        rest.split('/').next().expect("an address").to_owned()
    }

    async fn signals(&self, signal: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args([signal, &id]).status().await.expect("a signal");
        assert!(status.success(), "the demo runs");
    }

    fn admin(&self) -> String {
        self.address("look ")
    }

    fn sdks(&self) -> String {
        self.address("/msdk/evalx")
    }
}

/// Runs a line as pasted by a user; a stream is ended after some seconds and must have printed something.
async fn pasted(line: &str) -> String {
    let is_stream = line.contains(" -N ");
    let shell = if is_stream {
        format!("{line} --silent --max-time 4 --fail")
    } else {
        format!("{line} --silent --max-time 10 --fail-with-body")
    };
    let output = Command::new("sh").args(["-c", &shell]).output().await.expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // 28: curl's exit code for a timeout, which is how the stream is ended.
    let is_fine = output.status.success() || (is_stream && output.status.code() == Some(28));
    assert!(is_fine && !text.is_empty(), "`{line}` ended with {:?} and printed {text}", output.status);
    text
}

async fn eventually(what: &str, time: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(time, wait).await.unwrap_or_else(|_| panic!("not within {time:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_behaves_as_documented() {
    let mut demo = Demo::start().await;
    let lines = demo.curl_lines();
    assert_eq!(lines.len(), 7, "{lines:#?}");
    for line in &lines {
        pasted(line).await;
    }
    let readme = readme();
    let block =
        readme.split_once("```sh demo\n").expect("shell lines for the demo").1.split_once("```").expect("their end").0;
    for line in block.lines() {
        pasted(&line.replace("127.0.0.1:8030", &demo.sdks()).replace("127.0.0.1:8040", &demo.admin())).await;
    }

    // The demo prints both steps: edit the configuration of a plugin, replace its file.
    let evaluate = lines.iter().find(|line| line.contains("/msdk/evalx")).expect("an evaluation").clone();
    let banner = async || {
        let flags: Value = serde_json::from_str(&pasted(&evaluate).await).expect("JSON");
        flags["banner-text"]["value"].as_str().map(str::to_owned)
    };
    assert_eq!(banner().await.as_deref(), Some("pinned by a plugin"));
    let binding = demo.plugins.join("flag-override.toml");
    let text = std::fs::read_to_string(&binding).expect("a binding file");
    std::fs::write(&binding, text.replace("pinned by a plugin", "edited")).expect("the file is written");
    eventually("the edited text is served", Duration::from_secs(2), async || {
        banner().await.as_deref() == Some("edited")
    })
    .await;
    let component = demo.plugins.join("flag-override.wasm");
    std::fs::rename(&component, component.with_extension("away")).expect("the file is moved");
    std::fs::rename(&binding, binding.with_extension("off")).expect("the file is moved");
    eventually("the real text is served", Duration::from_secs(2), async || {
        banner().await.is_some_and(|it| it != "edited" && it != "pinned by a plugin")
    })
    .await;

    // Ctrl-C.
    demo.signals("-INT").await;
    demo.reads_until("demo: OK, ended cleanly").await;
    assert!(demo.child.wait().await.expect("it ends").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_does_not_end_the_demo() {
    const SDK_KEY: &str = "sdk-00000000-demo-demo-demo-000000000001";
    let mut demo = Demo::start().await;
    let address: std::net::SocketAddr = demo.sdks().parse().expect("an address");
    let call = Call::get("/all").key(SDK_KEY);
    let mut stream = Sdk::new(SseClient::open(address, &call).await, &call);
    stream.receives_event("put").await;
    for _ in 0..3 {
        demo.signals("-HUP").await;
    }
    // Flags of the demo change on a timer, and a stream that was open before receives two of the changes.
    for _ in 0..2 {
        stream.receives_event("patch").await;
    }
    assert_eq!(Call::get("/sdk/flags").key(SDK_KEY).to(address).await.status, 200);
    assert!(demo.child.try_wait().expect("a child").is_none(), "it runs");
    demo.signals("-INT").await;
    demo.reads_until("demo: OK, ended cleanly").await;
    assert!(demo.child.wait().await.expect("it ends").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_it_in_a_real_browser() {
    let node = root().join("tests/sdks/node");
    let (Some(browser), true) = (crate::sdks::installed_browser(), node.join("node_modules/.installed").exists())
    else {
        assert!(std::env::var_os("CI").is_none(), "run `make setup` first");
        println!("skipped: no browser or no Node packages, run `make setup`");
        return;
    };
    let demo = Demo::start().await;
    let output = Command::new("node")
        .arg(node.join("page.mjs"))
        .arg(format!("http://{}/", demo.admin()))
        .arg(browser)
        .arg(std::env::var("PAGE_SCREENSHOT").unwrap_or_default())
        .output()
        .await
        .expect("Node runs");
    let seen: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("the browser failed: {}", String::from_utf8_lossy(&output.stderr)));
    let has = |place: &str, text: &str| seen[place].as_str().is_some_and(|it| it.contains(text));
    assert!(has("environments", "demo") && has("environments", "valid"), "{seen}");
    for plugin in ["flag-override", "event-redactor", "request-gate"] {
        assert!(has("plugins", plugin), "{seen}");
    }
    assert_eq!(seen["problems"], serde_json::json!([]), "{seen}");
}

/// Its data folder has the flags of the demo before, whose versions the new fakes do not know.
#[tokio::test]
async fn the_demo_works_again_and_again() {
    let dir = tempfile::tempdir().expect("a folder");
    for round in 1..=3 {
        let output = Command::new(env!("CARGO_BIN_EXE_yardarm"))
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--for", "1s", "--samples"])
            .arg(root().join("plugins"))
            .current_dir(dir.path())
            .output();
        let output = timeout(Duration::from_secs(90), output).await.expect("an end").expect("the demo starts");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.contains("demo: OK, ended cleanly"), "round {round}: {text}");
        assert!(dir.path().join("demo-plugins/.data").is_dir(), "{text}");
    }
}
