//! The admin page in a real browser: what it shows is the actual state.

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, FakeHarness, FakeLaunchDarkly, within};

use crate::flags::{data, flag};
use crate::plugins::put;
use crate::program::Program;
use crate::running::{SDK_KEY, harness_toml};
use crate::sdks::driven::{Driven, Language};

const ENV: &str = "0a1b2c3d-4e5f-4000-8000-000000000002";
const KEY: &str = "0a1b2c3d-4e5f-4000-8000-00000000bbbb";

/// A gateway whose environments at LaunchDarkly and Harness have the same name, and a browser with its page.
struct Watched {
    program: Program,
    launchdarkly: FakeLaunchDarkly,
    harness: FakeHarness,
    browser: Driven,
    dir: TempDir,
}

impl Watched {
    /// Starts both; returns `None` without a browser. `prepare` fills the gateway's folder, `more` is added to its
    /// settings.
    async fn start(more: &str, changes_before: u64) -> Option<Self> {
        if !Language::AdminPage.is_installed() {
            return None;
        }
        let (launchdarkly, harness) = (FakeLaunchDarkly::start().await, FakeHarness::start().await);
        launchdarkly.puts(SDK_KEY, &data([flag("greeting", 1)], []));
        harness.adds_environment(ENV, "prod", [KEY]);
        let dir = TempDir::new().expect("a folder");
        let toml = format!(
            "log.format = \"json\"\n{}\n[launchdarkly]\nstream_uri = {url:?}\n[[launchdarkly.environments]]\n\
             name = \"prod\"\nsdk_key = {SDK_KEY:?}\n",
            harness_toml(dir.path(), &harness, &[KEY], more),
            url = launchdarkly.url(),
        );
        std::fs::write(dir.path().join("yardarm.toml"), toml).expect("a file");
        let program = Program::start(dir.path()).await;
        program.wait_until_ready().await;
        for version in 2..2 + changes_before {
            launchdarkly.patches(SDK_KEY, &flag("greeting", i64::try_from(version).expect("a small number")));
        }
        let served = async {
            loop {
                let reports = program.operator_gets("/api/environments").await.json();
                let newest = &reports["environments"][0]["recent_changes"][0]["text"];
                if newest.as_str().is_some_and(|it| it.contains(&format!("version {}", 1 + changes_before)))
                    || changes_before == 0
                {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        within("all changes to be served", served).await;
        let mut browser = Driven::start(Language::AdminPage, &format!("http://{}/", program.admin), "").await;
        browser.receives("open").await;
        Some(Self { program, launchdarkly, harness, browser, dir })
    }

    /// Returns the visible content of the page.
    async fn look(&mut self) -> Value {
        self.browser.answers("look", "look").await
    }

    /// Polls the page until a condition holds; returns its content.
    async fn sees(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut look = Value::Null;
        let watch = async {
            loop {
                look = self.look().await;
                if is_so(&look) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(60), watch).await.is_err() {
            panic!("not seen: {what}, but {look:#}");
        }
        look
    }

    /// Waits long enough for several polls of the page.
    async fn passes_some_time() {
        tokio::time::sleep(std::time::Duration::from_millis(3500)).await;
    }
}

fn changes(look: &Value) -> Vec<&str> {
    look["changes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_green(look: &Value) -> bool {
    look["tone"] == "good" || look["verdict"] == "ready"
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_at_both_vendors_is_two_environments_and_changes_are_listed_once() {
    let Some(mut watched) = Watched::start("", 31).await else { return };
    let first = watched.sees("both environments", |it| it["environments"][1][0] == "harness").await;
    let names: Vec<_> = first["environments"].as_array().expect("rows").iter().map(|row| (&row[0], &row[1])).collect();
    assert_eq!(names, [(&json!("launchdarkly"), &json!("prod")), (&json!("harness"), &json!("prod"))]);
    // Changes before the page was opened are listed, newest first, each once.
    let reports = watched.program.operator_gets("/api/environments").await.json();
    let mut expected = Vec::new();
    for report in reports["environments"].as_array().expect("reports") {
        let label = format!("{}/{}", report["vendor"].as_str().unwrap(), report["name"].as_str().unwrap());
        for change in report["recent_changes"].as_array().expect("changes") {
            expected.push((change["at_ms"].as_u64(), format!("{label}: {}", change["text"].as_str().unwrap())));
        }
    }
    assert!(expected.len() > 32, "changes at both vendors: {expected:#?}");
    let mut listed: Vec<_> = changes(&first).into_iter().map(str::to_owned).collect();
    assert!(listed[..32].iter().any(|it| it.starts_with("launchdarkly/prod: ") && it.contains("version 32")));
    let newest = expected.iter().rev().max_by_key(|it| it.0).expect("a change");
    assert_eq!(listed[0], newest.1);
    listed.sort();
    let mut texts: Vec<_> = expected.into_iter().map(|it| it.1).collect();
    texts.sort();
    assert_eq!(listed, texts);

    // Another poll is not a change.
    Watched::passes_some_time().await;
    let later = watched.look().await;
    assert_eq!(later["changes"], first["changes"]);
    watched.launchdarkly.patches(SDK_KEY, &flag("greeting", 40));
    let count = changes(&first).len() + 1;
    let after = watched.sees("the change", |it| changes(it).len() >= count).await;
    assert!(changes(&after)[0].starts_with("launchdarkly/prod: ") && changes(&after)[0].contains("version 40"));
    Watched::passes_some_time().await;
    let last = watched.look().await;
    assert_eq!(changes(&last).len(), count, "{last:#}");
    assert_eq!((&last["verdict"], &last["tone"]), (&json!("ready"), &json!("good")));
    assert_eq!(last["title"], "ready · Yardarm");
    assert_eq!(last["problems"], json!([]));
    watched.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_never_shown_as_healthy() {
    let Some(mut watched) = Watched::start("", 0).await else { return };
    let calm = watched.sees("calm", is_green).await;

    watched.launchdarkly.goes_down();
    let half = watched.sees("one environment without upstream", |it| it["tone"] == "warn").await;
    assert_eq!(half["verdict"], "ready, but 1 of 2 environments not up to date");

    watched.harness.goes_down();
    watched.harness.closes_streams(KEY);
    let dark = watched.sees("an outage", |it| it["tone"] == "bad").await;
    assert_eq!(dark["verdict"], "outage: 2 of 2 environments without upstream");
    assert_eq!(dark["title"], "outage: 2 of 2 environments without upstream · Yardarm");
    assert_ne!((&dark["color"], &dark["icon"]), (&calm["color"], &calm["icon"]));
    if let Ok(path) = std::env::var("OUTAGE_SCREENSHOT") {
        watched.browser.answers(&format!("screenshot {path}"), "done").await;
    }
    // `/ready` still answers 200, since last good data is served.
    assert_eq!(watched.program.operator_gets("/ready").await.status, 200);

    watched.launchdarkly.comes_back();
    watched.sees("half of it back", |it| it["tone"] == "warn").await;

    // A gateway that does not respond is not shown as healthy either.
    watched.program.signal(crate::program::Signal::KILL);
    let gone = watched.sees("no gateway", |it| it["verdict"] == "out of reach").await;
    assert_eq!(gone["tone"], "bad");
    drop(watched.dir);
    watched.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_from_disk_is_not_shown_as_healthy() {
    let Some(mut watched) = Watched::start("", 0).await else { return };
    watched.sees("calm", is_green).await;
    let (launchdarkly, harness, dir) = (watched.launchdarkly, watched.harness, watched.dir);
    watched.program.signal(crate::program::Signal::TERM);
    watched.program.ends().await;
    watched.browser.close().await;
    // Both vendors' services are down when the gateway comes back.
    launchdarkly.goes_down();
    harness.goes_down();
    let program = Program::start(dir.path()).await;
    let mut browser = Driven::start(Language::AdminPage, &format!("http://{}/", program.admin), "").await;
    browser.receives("open").await;
    for _ in 0..20 {
        let look = browser.answers("look", "look").await;
        assert!(!is_green(&look), "{look:#}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_plugin_folder_is_not_shown_as_healthy() {
    use std::os::unix::fs::PermissionsExt;
    let Some(mut watched) = Watched::start("", 0).await else { return };
    watched.sees("calm", is_green).await;
    let folder = watched.dir.path().join("plugins.d");
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).expect("our folder");
    mode(0o777);
    let look = watched.sees("the trouble", |it| it["folder"] != "").await;
    assert_eq!(look["verdict"], "ready, but the plugin folder cannot be used");
    assert_eq!(look["tone"], "warn");
    assert!(look["folder"].as_str().is_some_and(|it| it.starts_with("L12 unsafe-folder: ")), "{look:#}");
    mode(0o755);
    let look = watched.sees("calm again", is_green).await;
    assert!(look["folder"] == "" && changes(&look)[0] == "plugin folder: can be used again", "{look:#}");
    watched.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probation_rollback_and_last_errors_of_a_plugin_are_shown() {
    let Some(mut watched) = Watched::start("", 0).await else { return };
    let folder = watched.dir.path().join("plugins.d");
    let gate = |version: &str, fragment: &str| {
        let guest = Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment);
        put(&folder, "gate.wasm", guest.component().expect("a guest"));
    };
    let has = |text: &'static str| move |it: &Value| it["plugins"][0][1].as_str().is_some_and(|it| it.contains(text));
    gate("1.0.0", guests::ALLOW);
    watched.sees("the plugin", has("active 1.0.0")).await;
    gate("2.0.0", guests::TRAP);
    let look = watched.sees("the probation", has("on probation for ")).await;
    assert!(has("may return to 1.0.0")(&look), "{look:#}");
    for _ in 0..5 {
        Call::get("/sdk/flags").key(SDK_KEY).to(watched.program.address).await;
    }
    let look = watched.sees("the rollback", has("S02 rolled-back: version `2.0.0` was rolled back to `1.0.0`")).await;
    assert!(
        has("in quarantine: 2.0.0, because ")(&look) && has("C01 in request-auth, version 2.0.0: ")(&look),
        "{look:#}"
    );
    assert!(!has("on probation")(&look) && look["problems"] == json!([]), "{look:#}");
    watched.browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_calls_of_plugins_that_failed_are_shown_as_failed() {
    let Some(mut watched) = Watched::start("", 0).await else { return };
    let folder = watched.dir.path().join("plugins.d");
    let calls = |failed: &'static str| {
        move |it: &Value| (&it["plugins"][0][3], &it["plugins"][0][4]) == (&json!("1"), &json!(failed))
    };
    for (fragment, status, failed) in [(guests::FORBID, 403, "0"), (guests::TRAP, 503, "1")] {
        let name = if status == 403 { "forbids" } else { "traps" };
        let guest = Guest::new(name).hook(GuestHook::RequestAuth, fragment).component().expect("a guest");
        put(&folder, &format!("{name}.wasm"), guest);
        watched.sees("the plugin", |it| it["plugins"][0][1].as_str().is_some_and(|it| it.starts_with("active"))).await;
        let call = Call::get("/sdk/flags").key(SDK_KEY);
        assert_eq!(call.to(watched.program.address).await.status, status);
        watched.sees("its call", calls(failed)).await;
        std::fs::remove_file(folder.join(format!("{name}.wasm"))).expect("the plugin's file");
        watched.sees("no plugin", |it| it["plugins"][0][0] != name).await;
    }
    watched.browser.close().await;
}
