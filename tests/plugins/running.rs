//! `yardarm plugin run`: a plugin that runs while its author changes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::scaffolds::{packaged_sdk, tools};
use super::{put, sample};
use crate::program::run;

/// Time for an event; a build can be between two of them.
const EVENT_TIMEOUT: Duration = Duration::from_secs(120);

/// A folder for the author's files, and one for temporary files of the program.
struct Desk {
    dir: TempDir,
    temporary: TempDir,
}

/// The running command and its events.
struct Running {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
}

impl Desk {
    fn new() -> Self {
        Self { dir: TempDir::new().expect("a folder"), temporary: TempDir::new().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        put(self.dir.path(), name, content);
    }

    /// Puts a guest for `request-auth` into the folder.
    fn put_guest(&self, name: &str, version: &str, fragment: &str) {
        let guest = Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment);
        self.put(name, guest.component().expect("a component"));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_yardarm"));
        command
            .args(["plugin", "run"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.temporary.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn starts(&self, arguments: &[&str]) -> Running {
        self.starts_with(arguments, &[])
    }

    fn starts_with(&self, arguments: &[&str], variables: &[(&str, &Path)]) -> Running {
        let mut command = self.command(arguments);
        let child = command.arg("--json").envs(variables.iter().copied()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("a program that starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Running { child, output, events: Vec::new() }
    }

    /// Runs the command to its end; returns its exit code, output and errors.
    async fn ends(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = timeout(EVENT_TIMEOUT, self.command(arguments).output()).await;
        let output = output.expect("an end").expect("a program that starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn assert_no_temporary_files(&self) {
        let left: Vec<_> = fs::read_dir(self.temporary.path()).expect("a folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Running {
    /// Waits for the next event with this name for which `is_it` holds.
    async fn event(&mut self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let next = async {
            while let Some(line) = self.output.next_line().await.expect("a line") {
                let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                self.events.push(event.clone());
                if event["event"] == name && is_it(&event) {
                    return event;
                }
            }
            panic!("the command ended without `{name}`: {:#?}", self.events);
        };
        match timeout(EVENT_TIMEOUT, next).await {
            Ok(event) => event,
            Err(_) => panic!("no event `{name}`: {:#?}", self.events),
        }
    }

    /// Waits for calls of a hook with this outcome, by a generation.
    async fn calls(&mut self, hook: &str, outcome: &str, generation: &Value) -> Value {
        let of_hook = |event: &Value| {
            let hooks = event["hooks"].as_array().cloned().unwrap_or_default();
            hooks.into_iter().find(|it| it["hook"] == hook && it["outcomes"][outcome].as_u64() > Some(0))
        };
        let event = self.event("calls", |event| event["generation"] == *generation && of_hook(event).is_some()).await;
        of_hook(&event).expect("calls")
    }

    /// Sends Ctrl-C; the command must end with 0.
    async fn interrupt(mut self) {
        let id = rustix::process::Pid::from_raw(self.child.id().expect("it runs").try_into().expect("an ID"));
        rustix::process::kill_process(id.expect("an ID"), rustix::process::Signal::INT).expect("a signal");
        self.event("ended", |_| true).await;
        let status = timeout(EVENT_TIMEOUT, self.child.wait()).await.expect("an end").expect("a status");
        assert_eq!(status.code(), Some(0), "{:#?}", self.events);
    }
}

#[tokio::test]
async fn a_component_is_called_and_replaced_when_its_file_changes() {
    let desk = Desk::new();
    desk.put("request-gate.wasm", sample("request-gate"));
    fs::copy("../plugins/request-gate/request-gate.toml", desk.path("request-gate.toml")).expect("a binding file");
    let mut running = desk.starts(&["request-gate.wasm", "--rate", "100"]);
    let started = running.event("started", |_| true).await;
    assert!(started["binding"] == "request-gate.toml" && started["sdks"].is_string(), "{started}");
    let first = running.event("loaded", |_| true).await;
    assert_eq!((&first["hooks"], &first["replaced"]), (&json!(["request-auth"]), &Value::Null), "{first}");
    let calls = running.calls("request-auth", "deny", &first["generation"]).await;
    assert!(calls["p50_us"].as_u64() > Some(0) && calls["p99_us"].as_u64() >= calls["p50_us"].as_u64(), "{calls}");

    // Another component, with another binding file.
    desk.put("request-gate.toml", "[[bind]]\nhook = \"request-auth\"\n");
    desk.put_guest("request-gate.wasm", "2.0.0", guests::ALLOW);
    let second = running.event("loaded", |it| it["version"] == "2.0.0").await;
    assert!(second["replaced"].is_u64() && second["auto_bound"] == false, "{second}");
    running.calls("request-auth", "allow", &second["generation"]).await;

    // A version that needs a grant is refused with a remedy, and the one before keeps running.
    desk.put_guest("request-gate.wasm", "3.0.0", guests::CLOCK);
    let refused = running.event("refused", |_| true).await;
    assert_eq!((&refused["code"], &refused["running"]), (&json!("L06"), &second["generation"]), "{refused}");
    assert!(refused["text"].as_str().is_some_and(|text| text.contains("grants = [\"clock\"]")), "{refused}");
    running.event("calls", |it| it["generation"] == second["generation"]).await;
    desk.put("request-gate.toml", "[plugin]\ngrants = [\"clock\"]\n[[bind]]\nhook = \"request-auth\"\n");
    running.event("loaded", |it| it["version"] == "3.0.0").await;

    // Failed calls have their text.
    desk.put_guest("request-gate.wasm", "4.0.0", guests::TRAP);
    let failed = running.event("call-failed", |it| it["class"] == "trap").await;
    assert!(failed["text"].as_str().is_some_and(|text| text.contains("unreachable")), "{failed}");
    running.interrupt().await;
    desk.assert_no_temporary_files();
}

/// The fake SDKs and the changes of flags reach every hook. The guest for contexts knows those of one vendor only.
#[tokio::test]
async fn every_hook_is_called() {
    let hooks = [
        (GuestHook::RequestAuth, guests::ALLOW, "request-auth", "allow"),
        (GuestHook::EventFilter, guests::KEEP, "event-filter", "unchanged"),
        (GuestHook::PayloadTransform, guests::HIDE_FIRST, "payload-transform", "changed"),
        (GuestHook::ContextEnrichment, guests::SET_PLAN, "context-enrichment", "changed"),
        (GuestHook::EvaluationTransform, guests::OMIT_FIRST, "evaluation-transform", "changed"),
    ];
    let desk = Desk::new();
    let guest = hooks.iter().fold(Guest::new("all"), |guest, (hook, fragment, ..)| guest.hook(*hook, fragment));
    desk.put("all.wasm", guest.component().expect("a component"));
    let bind = |hook: &str| format!("[[bind]]\nhook = \"{hook}\"\nenvironments = [\"launchdarkly/prod\"]\n");
    desk.put("all.toml", hooks.map(|(.., hook, _)| bind(hook)).concat());
    let mut running = desk.starts(&["all.wasm", "--rate", "50", "--environment", "prod"]);
    let loaded = running.event("loaded", |_| true).await;
    for (.., hook, outcome) in hooks {
        running.calls(hook, outcome, &loaded["generation"]).await;
    }
    running.interrupt().await;
}

/// Hooks without a client: a task, changes of flags, and requests before their environment is known.
#[tokio::test]
async fn what_no_client_waits_for_is_called_as_well() {
    let done = ";; body\n(i32.store (i32.const 256) (i32.const 0))\n(i32.const 256)";
    let guest = Guest::new("apart")
        .hook(GuestHook::Background, guests::PUBLISH_COUNT)
        .hook(GuestHook::ChangeListener, done)
        .hook(GuestHook::RouteResolver, guests::RESOLVE_QUERY);
    let desk = Desk::new();
    desk.put("apart.wasm", guest.component().expect("a component"));
    let bind = |hook: &str, more: &str| format!("[[bind]]\nhook = \"{hook}\"\n{more}");
    let binding = [
        "[plugin]\ngrants = [\"kv\"]\n".to_owned(),
        bind("background", "interval_s = 1\n"),
        bind("change-listener", ""),
        bind("route-resolver", ""),
    ];
    desk.put("apart.toml", binding.concat());
    let mut running = desk.starts(&["apart.wasm", "--rate", "50"]);
    let loaded = running.event("loaded", |_| true).await;
    for (hook, outcome) in
        [("background", "changed"), ("change-listener", "unchanged"), ("route-resolver", "unchanged")]
    {
        running.calls(hook, outcome, &loaded["generation"]).await;
    }
    running.interrupt().await;
}

#[tokio::test]
async fn what_is_saved_is_built_and_a_broken_build_keeps_the_running_version() {
    let desk = Desk::new();
    desk.put_guest("one.wasm", "1.0.0", guests::FORBID);
    desk.put_guest("two.wasm", "2.0.0", guests::ALLOW);
    let script = "\
# Stands for a compiler: the source is the name of a component.
gate.wasm: source.txt
\t@grep -q '^[a-z]*$$' source.txt || { echo 'source.txt:1: syntax error' >&2; exit 1; }
\tcp $$(cat source.txt).wasm $@
";
    desk.put("Makefile", script);
    desk.put("source.txt", "one\n");
    desk.put("gate.toml", "[[bind]]\nhook = \"request-auth\"\n");
    let mut running = desk.starts(&[".", "--rate", "100"]);
    let first = running.event("loaded", |it| it["version"] == "1.0.0").await;
    running.calls("request-auth", "deny", &first["generation"]).await;

    desk.put("source.txt", "1 +\n");
    let failed = running.event("build-failed", |_| true).await;
    assert!(failed["output"].as_str().is_some_and(|it| it.contains("source.txt:1: syntax error")), "{failed}");
    assert!(failed["reason"].as_str().is_some_and(|it| it.contains("exit code 2")), "{failed}");
    running.event("calls", |it| it["generation"] == first["generation"]).await;

    desk.put("source.txt", "two\n");
    running.event("built", |_| true).await;
    let second = running.event("loaded", |it| it["version"] == "2.0.0").await;
    running.calls("request-auth", "allow", &second["generation"]).await;
    running.interrupt().await;
    desk.assert_no_temporary_files();
}

#[tokio::test]
async fn a_new_plugin_is_edited_saved_and_swapped() {
    let Some(tools) = tools("wat", "bin/wasm-tools") else { return };
    let desk = Desk::new();
    let created = run(desk.dir.path(), &["plugin", "new", "gate", "--lang", "wat", "--hook", "request-auth"]);
    assert!(created.status.success(), "{created:?}");
    let header = "x-token: open sesame";
    let arguments = ["gate", "--rate", "100", "--header", header];
    let mut running = desk.starts_with(&arguments, &[("YARDARM_TOOLS", &tools)]);
    let first = running.event("loaded", |_| true).await;
    running.calls("request-auth", "allow", &first["generation"]).await;

    let source = fs::read_to_string(desk.path("gate/plugin.wat")).expect("a source");
    let edited = source.replace("\"x-token\"", "\"y-token\"");
    assert_ne!(edited, source);
    put(&desk.path("gate"), "plugin.wat", edited);
    let second = running.event("loaded", |it| it["generation"] != first["generation"]).await;
    assert_eq!(second["replaced"], first["generation"]);
    running.calls("request-auth", "deny", &second["generation"]).await;
    // The new header is not granted, which is shown.
    running.event("calls", |it| it["grants_missing"] == json!(["header:y-token"])).await;
    running.interrupt().await;
}

/// With the crate as it is published, as an author outside of the repository has it.
#[tokio::test]
async fn a_new_plugin_in_rust_is_edited_saved_and_swapped() {
    let desk = Desk::new();
    let packages = TempDir::new().expect("a folder");
    let sdk = packaged_sdk(packages.path());
    let sdk = sdk.to_str().expect("a path of text");
    let created =
        run(desk.dir.path(), &["plugin", "new", "gate", "--lang", "rust", "--hook", "request-auth", "--sdk", sdk]);
    assert!(created.status.success(), "{created:?}");
    // What finds the compiler and its packages.
    let variables = ["HOME", "CARGO_HOME", "RUSTUP_HOME"].map(|name| (name, std::env::var_os(name)));
    let variables: Vec<_> =
        variables.iter().filter_map(|(name, value)| Some((*name, Path::new(value.as_ref()?)))).collect();
    let arguments = ["gate", "--rate", "100", "--header", "x-token: open sesame"];
    let mut running = desk.starts_with(&arguments, &variables);
    let first = running.event("loaded", |_| true).await;
    running.calls("request-auth", "allow", &first["generation"]).await;

    let source = fs::read_to_string(desk.path("gate/src/lib.rs")).expect("a source");
    put(&desk.path("gate/src"), "lib.rs", source.replace("Ok(match", "Okay(match"));
    let failed = running.event("build-failed", |_| true).await;
    assert!(failed["output"].as_str().is_some_and(|it| it.contains("cannot find") && it.contains("Okay")), "{failed}");
    running.event("calls", |it| it["generation"] == first["generation"]).await;

    put(&desk.path("gate/src"), "lib.rs", source.replace("token == self.0.token", "token != self.0.token"));
    let second = running.event("loaded", |it| it["generation"] != first["generation"]).await;
    assert_eq!(second["replaced"], first["generation"]);
    running.calls("request-auth", "deny", &second["generation"]).await;
    running.interrupt().await;
}

#[tokio::test]
async fn a_script_sees_lines_and_an_exit_code() {
    let desk = Desk::new();
    desk.put_guest("gate.wasm", "1.0.0", guests::ALLOW);
    let (code, text, _) = desk.ends(&["gate.wasm", "--for", "3s", "--rate", "100"]).await;
    assert_eq!(code, Some(0), "{text}");
    for part in ["running gate: SDKs at http://127.0.0.1:", "loaded: version 1.0.0", "request-auth: ", "ended, fine"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.contains("without a binding file"), "{text}");
    desk.put_guest("gate.wasm", "1.0.0", guests::TRAP);
    let (code, text, _) = desk.ends(&["gate.wasm", "--for", "3s", "--rate", "100"]).await;
    assert!(code == Some(1) && text.contains("failed: request-auth: C01 trap"), "{code:?} {text}");
    desk.assert_no_temporary_files();
}

/// The lines in `plugins/README.md`, with an end.
#[tokio::test]
async fn the_documented_way_to_a_running_filter_works() {
    let document = fs::read_to_string("../plugins/README.md").expect("a document");
    let lines = document.split_once("```sh run\n").expect("shell lines").1.split_once("\n```").expect("their end").0;
    let desk = Desk::new();
    let program = Path::new(env!("CARGO_BIN_EXE_yardarm")).parent().expect("a folder").as_os_str().to_owned();
    let path = [program, std::env::var_os("PATH").unwrap_or_default()].join(":".as_ref());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-e", "-c", &format!("{lines} --for 20s --rate 100")]).env("PATH", path).current_dir(desk.dir.path());
    let output = timeout(EVENT_TIMEOUT, shell.output()).await.expect("an end").expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("event-filter: ") && text.contains("ended, fine"), "{text}");
}

#[tokio::test]
async fn wrong_arguments_are_refused() {
    let desk = Desk::new();
    desk.put("text.wasm", "no component");
    desk.put("core.wasm", Guest::new("core").core().expect("a module"));
    fs::create_dir(desk.path("empty")).expect("a folder");
    for (arguments, part) in [
        (&["absent.wasm"][..], "absent.wasm: there is no such file or folder"),
        (&["text.wasm"], "text.wasm: L01 not-a-component"),
        (&["core.wasm"], "core.wasm: L01 not-a-component"),
        (&["empty"], "neither a Makefile nor a `build.sh`"),
        (&["gate.wasm", "--build", "no-such-compiler"], "no-such-compiler"),
        (&["gate.wasm", "--build", "echo 'gate.c:3: error'; exit 4"], "gate.c:3: error"),
        (&["gate.wasm", "--build", "true"], "`true` has not written it"),
        (&["text.wasm", "--binding", "absent.toml"], "absent.toml: there is no such file"),
        (&["text.wasm", "--build", "true", "--sources", "absent"], "absent: there is no such folder"),
    ] {
        let (code, _, errors) = desk.ends(arguments).await;
        assert!(code == Some(1) && errors.starts_with("error: ") && errors.contains(part), "{arguments:?}: {errors}");
    }
    for arguments in [&[][..], &["text.wasm", "--header", "x"], &["text.wasm", "--rate", "1001"]] {
        assert_eq!(desk.ends(arguments).await.0, Some(2), "{arguments:?}");
    }
    desk.assert_no_temporary_files();
}
