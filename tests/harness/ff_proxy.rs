//! The program with the settings of the vendor's relay: its flags, variables, messages and exit codes.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::Client;
use serde_json::json;
use tempfile::TempDir;
use yardarm_testkit::{Answer, Call, FakeHarness, SseClient, until, within};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, flag};
use crate::certificate;
use crate::program::{Program, Signal, command};
use crate::sdk::Sdk;

const TOKEN: &str = FakeHarness::ADMIN_TOKEN;

/// Returns a command under the name of the relay, with variables and free ports.
fn ff_proxy(dir: &Path, variables: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = command(dir);
    command.arg0("/app/ff-proxy").env("YARDARM_ADMIN_LISTEN", "127.0.0.1:0").env("PORT", "0").args(flags);
    command.envs(variables.iter().copied());
    command
}

/// Returns the command of an operator who gets data from this upstream.
pub(super) fn online(cloud: &FakeHarness, dir: &Path, keys: &str) -> Command {
    let mut command = ff_proxy(dir, &[("ACCOUNT_IDENTIFIER", "account"), ("ORG_IDENTIFIER", "organization")], &[]);
    let api = format!("{}/api/1.0", cloud.url());
    command.env("ADMIN_SERVICE", format!("{}/gateway/cf", cloud.url())).env("ADMIN_SERVICE_TOKEN", TOKEN);
    command.env("CLIENT_SERVICE", &api).env("METRIC_SERVICE", &api).env("SDK_BASE_URL", &api).env("API_KEYS", keys);
    command
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let ran = tokio::task::spawn_blocking(move || command.output().expect("a program that starts"));
    let Output { status, stderr, .. } = within("the end", ran).await.expect("a program that ends");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Returns the token of an SDK with this key; an invalid one if the key is not accepted.
async fn token(program: &Program, key: &str) -> String {
    let auth = program.answers(&Call::post("/client/auth", json!({ "apiKey": key }).to_string())).await;
    format!("Bearer {}", auth.json()["authToken"].as_str().unwrap_or_default())
}

/// Requests a path as an SDK with this key.
async fn served(program: &Program, key: &str, path: &str) -> Answer {
    program.answers(&Call::get(path).key(&token(program, key).await)).await
}

#[tokio::test]
async fn it_replaces_ff_proxy() {
    let cloud = cloud().await;
    let dir = TempDir::new().unwrap();
    // A Yardarm configuration in the folder is ignored.
    std::fs::write(dir.path().join("yardarm.toml"), "server.listen = 7").unwrap();
    let mut command = online(&cloud, dir.path(), OTHER_KEY);
    command.args([&format!("--api-keys={KEY}"), "-bypass-auth=true", "--log-level=ERROR"]);
    command.env("BYPASS_AUTH", "f").env("LOG_LEVEL", "INFO").env("REDIS_ADDRESS", "redis:6379").env("AUTH_SECRET", "");
    let program = Program::launch(command).await;
    within("`/ready`", program.wait_until_ready()).await;
    assert!(program.address.ip().is_unspecified(), "it listens everywhere: {}", program.address);
    for (env, key, flags) in [(ENV, KEY, 2), (OTHER_ENV, OTHER_KEY, 1)] {
        let answer = served(&program, key, &format!("/client/env/{env}/feature-configs")).await;
        assert_eq!(answer.json().as_array().map(Vec::len), Some(flags), "{}", answer.text());
    }
    let anybody = program.answers(&Call::get(format!("/client/env/{ENV}/feature-configs"))).await;
    assert_eq!(anybody.status, 401, "a variable wins over its flag");
    let warnings: Vec<_> = program.log().into_iter().filter(|it| it.contains("\"level\":\"WARN\"")).collect();
    for expected in ["shared Redis is unavailable", "AUTH_SECRET is not set"] {
        assert_eq!(warnings.iter().filter(|it| it.contains(expected)).count(), 1, "{warnings:?}");
    }
    assert!(!dir.path().join("data").exists(), "nothing is kept unless YARDARM_DATA_DIR says where");
    program.signal(Signal::TERM);
    assert_eq!(program.ends().await.0.code(), Some(0));
}

#[tokio::test]
async fn invalid_settings_are_reported_under_the_names_of_ff_proxy() {
    let dir = TempDir::new().unwrap();
    // F111
    let (code, output) = ended(ff_proxy(dir.path(), &[("ORG_IDENTIFIER", "o"), ("API_KEYS", "")], &[])).await;
    let expected =
        "The following configuration values are required: [ACCOUNT_IDENTIFIER ADMIN_SERVICE_TOKEN API_KEYS]\n";
    assert_eq!((code, output.as_str()), (Some(1), expected), "F111");
    let (code, output) = ended(ff_proxy(dir.path(), &[("BYPASS_AUTH", "yes")], &["--port=canary"])).await;
    assert_eq!(code, Some(2), "{output}");
    for line in ["argument --port must be", "variable BYPASS_AUTH must be", "--api-keys=A,B,C, API_KEYS"] {
        assert!(output.contains(line), "{line}: {output}");
    }
    assert!(!output.contains("canary"), "it might be a secret: {output}");
    let (code, output) = ended(ff_proxy(dir.path(), &[("REDIS_ADDRESS", "r:1"), ("AND_RULES", "true")], &[])).await;
    assert_eq!((code, output.as_str()), (Some(1), "The following configuration values are required: [PROXY_KEY]\n"));
    let help = ff_proxy(dir.path(), &[], &["--help"]).output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("YARDARM_DATA_DIR"));
}

#[tokio::test]
async fn neither_keys_nor_tokens_are_printed() {
    // F112
    let cloud = cloud().await;
    let dir = TempDir::new().unwrap();
    let (bad, secret) = ("bad0canary-0000-4000-8000-00000000cccc", "a canary of a secret");
    let mut command = online(&cloud, dir.path(), &format!("{KEY},{bad}"));
    command.env("AUTH_SECRET", secret).env("YARDARM_LOG_LEVEL", "trace");
    let program = Program::launch(command).await;
    within("`/ready`", program.wait_until_ready()).await;
    let masked = format!("bad0{}", "*".repeat(bad.len() - 4));
    yardarm_testkit::until("the bad key", || program.has_logged(&masked)).await;
    let mut shown = Vec::new();
    for (key, path) in [(KEY, format!("/client/env/{ENV}/feature-configs")), (bad, "/health".to_owned())] {
        shown.push(served(&program, key, &path).await.text().to_owned());
    }
    shown.push(program.answers(&Call::get("/stream").header("API-Key", bad)).await.text().to_owned());
    for path in ["/api/status", "/api/environments", "/metrics"] {
        shown.push(program.operator_gets(path).await.text().to_owned());
    }
    program.signal(Signal::TERM);
    let (exit, log) = program.ends().await;
    assert_eq!(exit.code(), Some(0));
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is at its loudest");
    for text in log.iter().chain(&shown) {
        for secret in [KEY, bad, TOKEN, secret] {
            assert!(!text.contains(secret), "F112: {secret} in {text}");
        }
    }
}

#[tokio::test]
async fn https_with_its_two_files() {
    // F093
    let cloud = cloud().await;
    let dir = TempDir::new().unwrap();
    let authority = certificate::FIRST.write(dir.path());
    let mut command = online(&cloud, dir.path(), KEY);
    command.env("TLS_ENABLED", "true").env("TLS_CERT", "cert.pem").arg("--tls-key=key.pem");
    let program = Program::launch(command).await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], program.address.port()));
    let client = Client::builder().add_root_certificate(authority).resolve("localhost", address).build().unwrap();
    program.wait_until_ready().await;
    let health = client.get(format!("https://localhost:{}/health", address.port())).send().await.expect("an answer");
    assert_eq!(health.status().as_u16(), 200, "F093");
    assert!(health.text().await.expect("text").contains("cacheStatus"));
    assert!(Client::new().get(format!("http://{address}/health")).send().await.is_err(), "F093: HTTPS only");
}

#[tokio::test]
async fn offline_files_are_written_and_served() {
    // F095
    let cloud = cloud().await;
    cloud.sets_targets(ENV, [json!({"identifier": "ada", "name": "Ada"})]);
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("made/config");
    let generating = |keys: &str, folder: &Path| {
        let mut command = online(&cloud, dir.path(), keys);
        command.args(["--generate-offline-config", "--target-poll-duration=60"]).env("CONFIG_DIR", folder);
        command
    };
    let (code, output) = ended(generating(&format!("{KEY},{OTHER_KEY}"), &folder)).await;
    assert_eq!(code, Some(0), "{output}");
    for (file, part) in [("feature_config.json", "\"feature\":\"a\""), ("targets.json", "ada"), ("README.md", "prod")] {
        let text = std::fs::read_to_string(folder.join(format!("env-{ENV}")).join(file)).expect("a file");
        assert!(text.contains(part), "F095 {file}: {text}");
    }
    assert!(folder.join(format!("env-{OTHER_ENV}")).join("auth_config.json").exists(), "F095");

    cloud.goes_down();
    let requests = cloud.requests().len();
    let folder_text = folder.to_str().unwrap();
    let program = Program::launch(ff_proxy(dir.path(), &[("OFFLINE", "1"), ("CONFIG_DIR", folder_text)], &[])).await;
    let answer = served(&program, KEY, &format!("/client/env/{ENV}/feature-configs")).await;
    assert_eq!(answer.json().as_array().map(Vec::len), Some(2), "{}", answer.text());
    assert_eq!(program.answers(&Call::get("/health")).await.json()["environments"], json!([]));
    assert_eq!(cloud.requests().len(), requests, "offline means offline");

    cloud.comes_back();
    let (code, output) = ended(generating(&format!("{KEY},unknown-key"), &folder)).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("`environments[1]`") && !output.contains("unknown-key"), "{output}");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (code, output) = ended(generating(KEY, &dir.path().join("file"))).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("cannot be written"), "{output}");
}

#[tokio::test]
async fn a_proxy_key_is_all_that_is_needed() {
    // F113
    let cloud = cloud().await;
    cloud.adds_proxy("proxy-canary", [ENV, OTHER_ENV]);
    let dir = TempDir::new().unwrap();
    let api = format!("{}/api/1.0", cloud.url());
    let settings = [("PROXY_KEY", "proxy-canary"), ("CLIENT_SERVICE", &api), ("METRIC_SERVICE", &api)];
    let program = Program::launch(ff_proxy(dir.path(), &settings, &["--log-level=DEBUG"])).await;
    within("`/ready`", program.wait_until_ready()).await;
    for (env, key, flags) in [(ENV, KEY, 2), (OTHER_ENV, OTHER_KEY, 1)] {
        let answer = served(&program, key, &format!("/client/env/{env}/feature-configs")).await;
        assert_eq!(answer.json().as_array().map(Vec::len), Some(flags), "F113 {}", answer.text());
    }
    program.signal(Signal::TERM);
    let (exit, log) = program.ends().await;
    assert_eq!(exit.code(), Some(0));
    assert!(log.iter().all(|it| !it.contains("canary")), "F112 {log:?}");

    // There are no targets to wait for.
    let folder = dir.path().join("config");
    let flags = ["--generate-offline-config", "--target-poll-duration=60"];
    let mut command = ff_proxy(dir.path(), &settings, &flags);
    command.env("CONFIG_DIR", &folder);
    let (code, output) = ended(command).await;
    assert_eq!(code, Some(0), "{output}");
    for env in [ENV, OTHER_ENV] {
        assert!(folder.join(format!("env-{env}")).join("auth_config.json").exists(), "F095");
    }
}

#[tokio::test]
async fn sighup_ends_neither_the_process_nor_a_stream() {
    let cloud = cloud().await;
    let dir = TempDir::new().unwrap();
    let program = Program::launch(online(&cloud, dir.path(), KEY)).await;
    within("`/ready`", program.wait_until_ready()).await;
    let call = Call::get("/stream").key(&token(&program, KEY).await).header("API-Key", KEY);
    let opens = async {
        loop {
            let client = SseClient::open(program.address, &call).await.with_framed_comments();
            if client.head().status == 200 {
                return Sdk::new(client, &call);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let mut stream = within("an open stream", opens).await;
    for version in 10..13 {
        let reloads = || program.log().iter().filter(|it| it.contains("configuration reloaded")).count() as u64;
        let before = reloads();
        program.signal(Signal::HUP);
        until("a reload", || reloads() > before).await;
        cloud.changes_flag(ENV, &flag("a", version));
        let received = stream.receives_event("*").await;
        assert_eq!((&received["identifier"], &received["version"]), (&json!("a"), &json!(version)));
        let answer = served(&program, KEY, &format!("/client/env/{ENV}/feature-configs/a")).await;
        assert_eq!((answer.status, &answer.json()["version"]), (200, &json!(version)));
    }
    program.signal(Signal::TERM);
    stream.receives_end().await;
    let (exit, log) = program.ends().await;
    assert_eq!(exit.code(), Some(0), "{log:#?}");
    let is_complaint = |it: &&String| it.contains("take effect after a restart") || it.contains("cannot be used");
    assert_eq!(log.iter().find(is_complaint), None, "variables and flags cannot have changed");
}
