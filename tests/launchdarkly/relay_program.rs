//! The program with the configuration of the vendor's relay: its flags, file, variables, messages and exit codes.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use yardarm_testkit::{Answer, Call, FakeLaunchDarkly, RedisServer, Reply, StreamAnswer, until, within};

use crate::program::{Program, Signal, command, run};
use crate::running::{ENV_ID, MOBILE_KEY, SDK_KEY};

const OTHER_KEY: &str = "sdk-00000000-1111-2222-3333-444444444409";

/// Returns a command under the name of the relay in its container image.
fn relay(dir: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = command(dir);
    command.arg0("/usr/bin/ldr").env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0").args(flags);
    command.envs(variables.iter().copied());
    command
}

fn one_flag() -> serde_json::Value {
    serde_json::json!({"flags": {"f": {"key": "f", "version": 1}}, "segments": {}})
}

async fn cloud() -> FakeLaunchDarkly {
    let cloud = FakeLaunchDarkly::start().await;
    cloud.add_environment(SDK_KEY);
    cloud.puts(SDK_KEY, &one_flag());
    cloud
}

/// Returns the lines of a file that names the fake services.
fn main_section(cloud: &FakeLaunchDarkly) -> String {
    let url = cloud.url();
    format!("[Main]\nstreamUri = {url}\nbaseUri = {url}\n[Events]\neventsUri = {url}\n")
}

/// Runs a command to its end: exit code, standard output, standard error.
async fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let ran = tokio::task::spawn_blocking(move || command.output().expect("a program that starts"));
    let Output { status, stdout, stderr } = within("the end", ran).await.expect("a program that ends");
    let text = |it: Vec<u8>| String::from_utf8_lossy(&it).into_owned();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn u127_u129_u137_it_replaces_ld_relay() {
    let cloud = cloud().await;
    let dir = TempDir::new().unwrap();
    // A Yardarm configuration in the folder is ignored.
    std::fs::write(dir.path().join("yardarm.toml"), "server.listen = 7").unwrap();
    let file = format!(
        "; of an operator\n{}sendEvents = true\n[environment \"My Env\"]\nSDKKEY = {SDK_KEY}\nmobileKey = {MOBILE_KEY}\n\
         envId = {ENV_ID}\nallowedOrigin = \"https://one.example\"\n[Datadog]\nenabled = true\n",
        main_section(&cloud)
    );
    std::fs::write(dir.path().join("ld-relay.conf"), file).unwrap();
    cloud.add_environment(OTHER_KEY);
    cloud.puts(OTHER_KEY, &one_flag());
    let variables = [("PORT", "18032"), ("LOG_FORMAT", "json"), ("LD_ENV_second", OTHER_KEY)];
    let program = Program::launch(relay(dir.path(), &["-config", "ld-relay.conf", "--from-env"], &variables)).await;
    within("`/ready`", program.wait_until_ready()).await;
    assert_eq!(program.address.to_string(), "0.0.0.0:18032");
    let status = program.answers(&Call::get("/status")).await.json();
    let names: Vec<_> = status["environments"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["My Env", "second"], "{status}");
    let flags: Answer = program.answers(&Call::get("/sdk/flags").key(OTHER_KEY)).await;
    assert_eq!(flags.status, 200, "{}", flags.text());
    until("the outcome of the start", || {
        program.has_logged("Initialized LaunchDarkly client for \\\"My Env\\\" (SDK key ...4401)")
    })
    .await;
    // U149: every line is an object with time, level and message.
    for line in program.log() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert!(["timestamp", "level", "message"].iter().all(|it| line[it].is_string()), "{line}");
    }
    assert!(
        program.has_logged("[Datadog] enabled (ld-relay.conf, line 14, column 1) has no effect"),
        "{:?}",
        program.log()
    );
    assert!(!program.log().iter().any(|it| it.contains(SDK_KEY)), "no key in the log");
    assert!(!dir.path().join("data").exists(), "nothing is kept unless YARDARM_DATA_DIR says where");
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn u126_u130_u143_u147_errors_have_the_texts_and_the_exit_code_of_ld_relay() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("bad.conf"), "[Main]\nUnknown = 1\n").unwrap();
    std::fs::write(dir.path().join("empty.conf"), "[Main]\n").unwrap();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let env = ("LD_ENV_a", SDK_KEY);
    for (flags, variables, expected) in [
        (&[][..], &[][..], "ERROR: Error: configuration file \"/etc/ld-relay.conf\" does not exist".to_owned()),
        (&["--bogus"], &[], "ERROR: Error: flag provided but not defined: -bogus".to_owned()),
        (&["-config", "none"], &[], "ERROR: Error: configuration file \"none\" does not exist".to_owned()),
        (
            &["-config", "bad.conf"],
            &[],
            "ERROR: Error loading config file: failed to read configuration file \"bad.conf\": unsupported or misspelled \
             section \"Main\", variable \"Unknown\""
                .to_owned(),
        ),
        (
            &["-config", "empty.conf"],
            &[],
            "ERROR: Unable to create relay: you must specify at least one environment in your configuration".to_owned(),
        ),
        (
            &["-from-env"],
            &[env, ("PORT", "0"), ("USE_EVENTS", "maybe")],
            "ERROR: Configuration error: PORT: value must be greater than zero, USE_EVENTS: not a valid boolean value"
                .to_owned(),
        ),
        (
            &["-from-env"],
            &[env, ("PORT", &port)],
            format!("ERROR: Error starting http listener on port: {port}  listen 0.0.0.0:{port}: it is in use"),
        ),
        // U152
        (
            &["-from-env"],
            &[env, ("PORT", "18033"), ("USE_PROMETHEUS", "1"), ("PROMETHEUS_PORT", &port)],
            "ERROR: Unable to create relay: unable to create metrics manager: failed to start Prometheus listener: "
                .to_owned(),
        ),
    ] {
        let (code, out, err) = ended(relay(dir.path(), flags, variables)).await;
        assert_eq!(code, Some(1), "{flags:?}: {out}{err}");
        assert!(err.contains(&expected), "{expected}\n{err}");
        // Errors are on standard error, everything else on standard output.
        assert!(!out.contains(" ERROR: ") && !err.contains(" INFO: "), "{out}\n{err}");
    }
    let (code, out, _) = ended(relay(dir.path(), &["--version"], &[])).await;
    assert_eq!((code, out.contains("INFO: LaunchDarkly relay version ")), (Some(0), true), "{out}");
}

#[tokio::test]
async fn u043_u044_exit_on_error_ends_the_process_after_the_initial_timeout() {
    let dir = TempDir::new().unwrap();
    let nowhere = "http://127.0.0.1:1";
    let base = [("LD_ENV_a", SDK_KEY), ("PORT", "18034"), ("STREAM_URI", nowhere), ("INIT_TIMEOUT", "300ms")];
    let (code, out, err) =
        ended(relay(dir.path(), &["-from-env"], &[&base[..], &[("EXIT_ON_ERROR", "true")]].concat())).await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("Error initializing LaunchDarkly client for \"a\": "), "{err}");
    let more = [("EXIT_ON_ERROR", "1"), ("IGNORE_CONNECTION_ERRORS", "1"), ("LOG_FORMAT", "json")];
    let program = Program::launch(relay(dir.path(), &["-from-env"], &[&base[..], &more].concat())).await;
    until("the warning", || program.has_logged("Ignoring error initializing LaunchDarkly client for \\\"a\\\": "))
        .await;
    assert_eq!(program.answers(&Call::get("/status")).await.status, 200, "the process stays");
}

#[tokio::test]
async fn u045_u046_one_shot_mode_fills_the_database_and_ends() {
    let Some(redis) = RedisServer::start() else { return };
    let (cloud, dir) = (cloud().await, TempDir::new().unwrap());
    let file = format!(
        "{}[Main]\nexitAlways\nport = 18035\n[Environment \"a\"]\nsdkKey = {SDK_KEY}\nprefix = p\n[Redis]\nurl = {}\n",
        main_section(&cloud),
        redis.url()
    );
    std::fs::write(dir.path().join("once.conf"), file).unwrap();
    let (code, out, err) = ended(relay(dir.path(), &["-config", "once.conf"], &[])).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("Running in one-shot mode"), "{out}");
    assert!(!out.contains(":18035"), "no listener for SDKs: {out}");
    assert_eq!(redis.ask(&["EXISTS", "p:$inited", "p:features"]), Reply::Number(2));
    cloud.answers_streams_with([StreamAnswer::Status(401)]);
    let (code, out, err) = ended(relay(
        dir.path(),
        &["-config", "once.conf"],
        &[("YARDARM_LAUNCHDARKLY_REDIS_URL", "redis://127.0.0.1:1")],
    ))
    .await;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("one or more environments failed to initialize: a"), "{err}");
}

#[test]
fn a_converted_configuration_is_accepted_and_equal() {
    let dir = TempDir::new().unwrap();
    let file = format!(
        "[Main]\nport = 18036\nmaxClientConnectionTime = 1h30m\ntlsEnabled = false\n[Events]\nsendEvents = yes\n\
         [Environment \"a \\\"b\\\"\"]\nsdkKey = {SDK_KEY}\nttl = 90s\nallowedOrigin = https://a,https://b\n\
         [Prometheus]\nenabled = true\nprefix = x\n"
    );
    std::fs::write(dir.path().join("ld-relay.conf"), file).unwrap();
    let effective = |arguments: &[&str]| {
        let printed = run(dir.path(), arguments);
        let text = String::from_utf8(printed.stdout).unwrap();
        // Without the sources.
        let lines = text.lines().filter_map(|it| Some(it.split_once("  # ")?.0.to_owned()));
        let mut lines: Vec<_> = lines.collect();
        assert!(lines.len() > 50, "{text} {}", String::from_utf8_lossy(&printed.stderr));
        lines.sort_unstable();
        lines
    };
    let before = effective(&["check", "--print-effective", "ld-relay", "-config", "ld-relay.conf"]);
    let converted = run(dir.path(), &["convert", "ld-relay", "-config", "ld-relay.conf"]);
    assert!(converted.status.success(), "{converted:?}");
    std::fs::write(dir.path().join("converted.toml"), &converted.stdout).unwrap();
    let after = effective(&["check", "--print-effective", "--config", "converted.toml"]);
    let list = |it: &String| it.replace("[\"https://a\",\"https://b\"]", "https://a,https://b");
    assert_eq!(before, after.iter().map(list).collect::<Vec<_>>());
    let explained = run(dir.path(), &["check", "--print-effective", "ld-relay", "-config", "ld-relay.conf"]);
    let explained = String::from_utf8(explained.stdout).unwrap();
    assert!(explained.contains("server.listen = 0.0.0.0:18036  # ld-relay.conf, line 2, column 1\n"), "{explained}");
    let unknown = run(dir.path(), &["convert", "relay"]);
    assert_eq!(unknown.status.code(), Some(64));
}
