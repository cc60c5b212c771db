//! The plugin folder of the real program: whatever happens to its files, SDKs are served and operators can see it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Call, FakeLaunchDarkly, within};

use super::{gate, put, redactor, sample};
use crate::flags::some_data;
use crate::program::{self, Program, Signal};
use crate::running::{ENV_ID, SDK_KEY, Setup};

/// A folder with a configuration for the real program, and its upstream.
pub(super) struct Prepared {
    pub(super) dir: TempDir,
    pub(super) plugins: PathBuf,
    pub(super) cloud: FakeLaunchDarkly,
}

impl Prepared {
    pub(super) async fn new(setup: Setup) -> Self {
        let (dir, cloud) = (TempDir::new().expect("a folder"), FakeLaunchDarkly::start().await);
        let mut setup = setup.set("log.format", "json").set("data.dir", dir.path().join("data").to_str());
        setup.fill(&cloud);
        setup.write(&cloud.url(), dir.path());
        let plugins = dir.path().join("plugins.d");
        fs::create_dir(&plugins).expect("a folder");
        Self { dir, plugins, cloud }
    }

    pub(super) async fn start(&self) -> Program {
        let program = Program::start(self.dir.path()).await;
        program.wait_until_ready().await;
        program
    }
}

pub(super) fn setup() -> Setup {
    Setup::with(some_data())
}

pub(super) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a file of ours");
}

pub(super) async fn plugins(program: &Program) -> Value {
    program.operator_gets("/api/plugins").await.json()
}

pub(super) fn row<'a>(status: &'a Value, file: &str) -> &'a Value {
    let rows = status["plugins"].as_array().expect("rows");
    rows.iter().find(|row| row["file"] == file).unwrap_or(&Value::Null)
}

/// Waits until the status of the folder satisfies a condition; returns it.
pub(super) async fn status_where(program: &Program, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    within(what, async {
        loop {
            let status = plugins(program).await;
            if is_wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Returns the status of a poll by a page with this token.
async fn poll(program: &Program, token: &str) -> u16 {
    let call = Call::get(format!("/sdk/goals/{ENV_ID}")).header("x-gate-token", token);
    program.answers(&call).await.status
}

#[tokio::test]
async fn a_revoked_token_is_rejected_although_size_and_time_of_the_file_are_unchanged() {
    let prepared = Prepared::new(setup()).await;
    let binding = |token: &str| gate("").replace("open sesame", token);
    let path = prepared.plugins.join("request-gate.toml");
    put(&prepared.plugins, "request-gate.toml", binding("token-one"));
    put(&prepared.plugins, "request-gate.wasm", sample("request-gate"));
    let program = prepared.start().await;
    let is_let_in = async |token: &str| poll(&program, token).await != 403 && poll(&program, token).await != 401;
    assert!(is_let_in("token-one").await && !is_let_in("token-two").await);
    let time = fs::metadata(&path).expect("a file").modified().expect("a time");
    for (revoked, accepted) in [("token-one", "token-two"), ("token-two", "token-one")] {
        let file = File::options().write(true).open(&path).expect("a file");
        file.write_all_at(binding(accepted).as_bytes(), 0).expect("written in place");
        file.set_modified(time).expect("the time is set back");
        drop(file);
        within("the token to be refused", async {
            while is_let_in(revoked).await || !is_let_in(accepted).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_world_writable_folder_disables_the_plugins_and_not_the_gateway() {
    let prepared = Prepared::new(setup()).await;
    put(&prepared.plugins, "event-redactor.toml", redactor(""));
    put(&prepared.plugins, "event-redactor.wasm", sample("event-redactor"));
    // Like `emptyDir` in Kubernetes.
    mode(&prepared.plugins, 0o1777);
    let program = prepared.start().await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    let status = plugins(&program).await;
    let text = status["trouble"]["text"].as_str().expect("trouble").to_owned();
    assert!(text.contains("chmod") && text.contains("plugins.trust"), "{text}");
    let refused = row(&status, "event-redactor");
    assert_eq!((&refused["state"], &refused["refused"]["code"]), (&"refused".into(), &"L12".into()));
    let metrics = program.operator_gets("/metrics").await;
    assert!(metrics.text().contains("yardarm_plugin_folder_usable 0\n"));
    assert!(metrics.text().contains("yardarm_plugin_files{result=\"refused\"} 1\n"));
    // `check` reports the same.
    let checked = program::run(prepared.dir.path(), &["check"]);
    let output = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(output.contains(&format!("refused: plugin folder: {text}")), "{output}");
    assert!(!checked.status.success());

    // Corrected while it runs.
    mode(&prepared.plugins, 0o755);
    let wait_until_active = |status: &Value| row(status, "event-redactor")["state"] == "active";
    status_where(&program, "the plugin to load", wait_until_active).await;
    assert!(program.operator_gets("/metrics").await.text().contains("yardarm_plugin_folder_usable 1\n"));
    let checked = program::run(prepared.dir.path(), &["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    // One line for the whole folder.
    let lines = program.log().iter().filter(|line| line.contains("plugins.trust")).count();
    assert_eq!(lines, 1, "{:#?}", program.log());

    // The same with the setting.
    program.signal(Signal::TERM);
    program.ends().await;
    mode(&prepared.plugins, 0o777);
    setup().set("plugins.trust", "any").set("log.format", "json").write(&prepared.cloud.url(), prepared.dir.path());
    let program = prepared.start().await;
    status_where(&program, "the plugin to load", wait_until_active).await;
}

#[tokio::test]
async fn a_required_gate_in_such_a_folder_fails_closed() {
    let prepared = Prepared::new(setup()).await;
    put(&prepared.plugins, "request-gate.toml", gate(""));
    put(&prepared.plugins, "request-gate.wasm", sample("request-gate"));
    mode(&prepared.plugins, 0o777);
    let program = Program::start(prepared.dir.path()).await;
    program.wait_until_plugins_are_loaded().await;
    assert_eq!(poll(&program, "open sesame").await, 503);
    // Traffic goes to other instances meanwhile.
    let ready = program.operator_gets("/ready").await;
    assert!(ready.status == 503 && ready.text().contains("waiting for: required plugin `request-gate`"), "{ready:?}");
    assert_eq!(row(&plugins(&program).await, "request-gate")["fails_closed"], true);
    mode(&prepared.plugins, 0o755);
    status_where(&program, "the gate", |status| row(status, "request-gate")["state"] == "active").await;
    program.wait_until_ready().await;
    assert_ne!(poll(&program, "open sesame").await, 503);
}

#[tokio::test]
async fn special_files_neither_block_the_start_nor_cost_memory() {
    let prepared = Prepared::new(setup()).await;
    let path = |name: &str| prepared.plugins.join(name);
    let pipe = |name: &str| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path(name), rustix::fs::Mode::RUSR).expect("a pipe");
    };
    pipe("pipe.wasm");
    pipe("bound.toml");
    put(&prepared.plugins, "bound.wasm", sample("request-gate"));
    for name in ["huge.wasm", "huge-binding.toml"] {
        File::create(path(name)).expect("a file").set_len(5_700_000_000).expect("a sparse file");
    }
    fs::create_dir(path("folder.toml")).expect("a folder");
    symlink("loop.wasm", path("loop.wasm")).expect("a link");
    let program = prepared.start().await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    let status = plugins(&program).await;
    for (file, class) in [
        ("pipe", "not-a-file"),
        ("bound", "not-a-file"),
        ("folder", "not-a-file"),
        ("huge", "too-large"),
        ("huge-binding", "too-large"),
        ("loop", "not-a-component"),
    ] {
        assert_eq!(row(&status, file)["refused"]["class"], class, "{file}: {status:#}");
    }
    let resident = program.operator_gets("/api/status").await.json()["resources"]["resident_bytes"].as_u64();
    assert!(resident.is_some_and(|it| it < 1 << 30), "{resident:?}");
    // A check terminates, too.
    let checked = program::run(prepared.dir.path(), &["check"]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains("refused: pipe: "));
}

#[tokio::test]
async fn an_invalid_or_removed_folder_does_not_stop_the_gateway() {
    let prepared = Prepared::new(setup()).await;
    fs::remove_dir(&prepared.plugins).expect("an empty folder");
    fs::write(&prepared.plugins, "a file").expect("a file");
    let program = prepared.start().await;
    assert!(plugins(&program).await["trouble"]["text"].as_str().is_some_and(|it| it.contains("is not a folder")));
    fs::remove_file(&prepared.plugins).expect("a file");
    fs::create_dir(&prepared.plugins).expect("a folder");
    put(&prepared.plugins, "event-redactor.toml", redactor(""));
    put(&prepared.plugins, "event-redactor.wasm", sample("event-redactor"));
    let wait_until_active = |status: &Value| row(status, "event-redactor")["state"] == "active";
    status_where(&program, "the plugin", wait_until_active).await;
    let away = prepared.dir.path().join("away");
    fs::rename(&prepared.plugins, &away).expect("moved");
    let status = status_where(&program, "trouble", |status| !status["trouble"].is_null()).await;
    assert!(wait_until_active(&status), "what ran goes on");
    fs::rename(&away, &prepared.plugins).expect("moved back");
    status_where(&program, "no trouble", |status| status["trouble"].is_null()).await;
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
    program.signal(Signal::TERM);
    assert!(program.ends().await.0.success());
}

#[tokio::test]
async fn compiled_code_is_used_again_while_the_store_knows_it() {
    let prepared = Prepared::new(setup()).await;
    let guest = Guest::new("gate").hook(GuestHook::RequestAuth, guests::ALLOW).component().expect("a component");
    put(&prepared.plugins, "gate.wasm", guest);
    let compiled = prepared.dir.path().join("data/compiled-plugins");
    let files =
        || -> Vec<_> { fs::read_dir(&compiled).expect("a folder").map(|it| it.expect("a file").path()).collect() };
    let starts = async |is_known: bool, signal: Signal| {
        let program = prepared.start().await;
        let status = status_where(&program, "the plugin", |status| row(status, "gate")["state"] == "active").await;
        assert_eq!(row(&status, "gate")["active"]["compiled_before"], is_known);
        within("one file", async {
            while files().len() != 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        program.signal(signal);
        program.ends().await;
    };
    starts(false, Signal::TERM).await;
    starts(true, Signal::KILL).await;
    // Code without a record is removed and never run, whatever its name is.
    let code = files().remove(0);
    let name = code.file_name().and_then(|it| it.to_str()).expect("a name");
    let engine = name.split('-').next().expect("the engine");
    fs::copy(&code, compiled.join(format!("{engine}-{}.cwasm", "0".repeat(64)))).expect("a file");
    starts(true, Signal::TERM).await;
    // Without its record, the file itself is not used either.
    fs::remove_file(prepared.dir.path().join("data/store.redb")).expect("the store");
    starts(false, Signal::TERM).await;
    starts(true, Signal::TERM).await;
}
