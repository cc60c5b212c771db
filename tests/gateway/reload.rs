//! SIGHUP: settings that can change at run time are read again, and nothing ends because of it.

use std::time::Duration;

use reqwest::{Certificate, Client};
use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeLaunchDarkly, until, within};

use crate::certificate;
use crate::flags::{flag, put, some_data};
use crate::program::{Program, Signal, command};
use crate::running::{SDK_KEY, Setup, main_environment};

struct Reloading {
    program: Program,
    cloud: FakeLaunchDarkly,
    dir: TempDir,
}

fn setup() -> Setup {
    Setup::with(some_data()).set("log.format", "json")
}

impl Reloading {
    async fn start(mut setup: Setup) -> Self {
        let cloud = FakeLaunchDarkly::start().await;
        let dir = TempDir::new().unwrap();
        setup.fill(&cloud);
        setup.write(&cloud.url(), dir.path());
        let program = Program::start(dir.path()).await;
        within("`/ready`", program.wait_until_ready()).await;
        Self { program, cloud, dir }
    }

    /// Reloads another configuration, and waits until this message is logged.
    async fn with(&self, setup: &Setup, message: &str) {
        setup.write(&self.cloud.url(), self.dir.path());
        let before = self.count(message);
        self.program.signal(Signal::HUP);
        until(message, || self.count(message) > before).await;
    }

    fn count(&self, message: &str) -> usize {
        self.program.log().iter().filter(|line| line.contains(message)).count()
    }

    /// Returns the last log record with this message.
    fn record(&self, message: &str) -> Value {
        let log = self.program.log();
        let line =
            log.iter().rev().find(|line| line.contains(message)).unwrap_or_else(|| panic!("{message}: {log:#?}"));
        serde_json::from_str(line).unwrap()
    }
}

const RELOADED: &str = "configuration reloaded";

#[tokio::test]
async fn ten_reloads_under_open_streams_end_nothing() {
    let reloading = Reloading::start(setup()).await;
    let id = reloading.program.id();
    let mut stream = reloading.program.opens("/all", SDK_KEY).await;
    stream.receives("put", put(some_data())).await;
    for round in 1..=10 {
        let level = if round % 2 == 0 { "info" } else { "debug" };
        reloading.with(&setup().set("log.level", level), RELOADED).await;
        let version = 10 + round;
        reloading.cloud.patches(SDK_KEY, &flag("plain", version));
        assert_eq!(stream.receives_event("patch").await["data"]["version"], version);
    }
    reloading.program.signal(Signal::USR1);
    reloading.program.signal(Signal::USR2);
    until("signals without a meaning", || reloading.count("was ignored") == 2).await;
    assert_eq!(reloading.program.id(), id);
    assert_eq!(reloading.program.answers(&Call::get("/status")).await.status, 200);
    reloading.program.signal(Signal::TERM);
    stream.receives_end().await;
    let (status, log) = reloading.program.ends().await;
    assert_eq!(status.code(), Some(0), "{log:#?}");
}

#[tokio::test]
async fn the_log_level_follows_the_file() {
    let reloading = Reloading::start(setup()).await;
    let has_details = || reloading.count("\"level\":\"DEBUG\"") > 0;
    reloading.program.answers(&Call::get("/status")).await;
    assert!(!has_details());
    reloading.with(&setup().set("log.level", "debug"), RELOADED).await;
    assert_eq!(reloading.record(RELOADED)["keys"], "log.level");
    within("details", async {
        while !has_details() {
            // The upstream client logs its reconnect.
            reloading.cloud.closes_streams(SDK_KEY);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn environments_come_and_go_with_the_file() {
    let reloading = Reloading::start(setup()).await;
    reloading.cloud.add_environment("sdk-second");
    reloading.cloud.puts("sdk-second", &some_data());
    let second = json!({"name": "second", "sdk_key": "sdk-second"});
    let mut first_stream = reloading.program.opens("/all", SDK_KEY).await;
    first_stream.receives("put", put(some_data())).await;
    reloading.with(&setup().environments([main_environment(), second]), RELOADED).await;
    let mut second_stream = reloading.program.opens_when_served("/all", "sdk-second").await;
    second_stream.receives("put", put(some_data())).await;
    reloading.with(&setup(), RELOADED).await;
    second_stream.receives_end().await;
    let call = Call::get("/all").key("sdk-second");
    assert_eq!(reloading.program.answers(&call).await.status, 401);
    reloading.cloud.patches(SDK_KEY, &flag("plain", 4));
    assert_eq!(first_stream.receives_event("patch").await["data"]["version"], 4);
}

#[tokio::test]
async fn an_invalid_configuration_changes_nothing_and_is_reported() {
    let reloading = Reloading::start(setup()).await;
    let refused = "the configuration cannot be used";
    reloading.with(&setup().set("server.max_streams", "many"), refused).await;
    let record = reloading.record(refused);
    assert_eq!(record["level"], "ERROR");
    assert!(record["error"].as_str().unwrap().contains("server.max_streams"), "{record}");
    std::fs::write(reloading.dir.path().join("yardarm.toml"), "[[[").unwrap();
    let before = reloading.count(refused);
    reloading.program.signal(Signal::HUP);
    until("another refusal", || reloading.count(refused) > before).await;
    std::fs::remove_file(reloading.dir.path().join("yardarm.toml")).unwrap();
    reloading.program.signal(Signal::HUP);
    until("another refusal", || reloading.count(refused) > before + 1).await;
    reloading.program.opens("/all", SDK_KEY).await.receives("put", put(some_data())).await;
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named() {
    let reloading = Reloading::start(setup()).await;
    let message = "changed settings take effect after a restart";
    reloading.with(&setup().set("server.max_streams", 7).set("plugins.recheck_window", "1s"), message).await;
    assert_eq!(reloading.record(message)["keys"], "plugins.recheck_window, server.max_streams");
    // One reload is enough.
    let before = reloading.count(RELOADED);
    reloading.program.signal(Signal::HUP);
    until(RELOADED, || reloading.count(RELOADED) > before).await;
    assert_eq!(reloading.count(message), 1);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_an_invalid_one_is_not() {
    let certificates = TempDir::new().unwrap();
    let path = |name: &str| certificates.path().join(name).to_str().unwrap().to_owned();
    let secured = setup().set("server.tls.cert", path("cert.pem")).set("server.tls.key", path("key.pem"));
    let first = certificate::FIRST.write(certificates.path());
    let reloading = Reloading::start(secured).await;
    let address = reloading.program.address;
    let asks = async |authority: &Certificate| {
        let client = Client::builder().add_root_certificate(authority.clone()).resolve("localhost", address);
        client.build().unwrap().get(format!("https://localhost:{}/status", address.port())).send().await.is_ok()
    };
    assert!(asks(&first).await);
    let second = certificate::SECOND.write(certificates.path());
    reloading.program.signal(Signal::HUP);
    within("the new certificate", async {
        while !asks(&second).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(!asks(&first).await);
    std::fs::write(certificates.path().join("cert.pem"), "no certificate").unwrap();
    let before = reloading.count("server.tls.cert");
    reloading.program.signal(Signal::HUP);
    until("an error that names the key", || reloading.count("server.tls.cert") > before).await;
    assert!(asks(&second).await);
}

#[tokio::test]
async fn a_signal_that_comes_before_the_start_is_complete_does_not_kill() {
    let cloud = FakeLaunchDarkly::start().await;
    let dir = TempDir::new().unwrap();
    let mut setup = setup();
    setup.fill(&cloud);
    setup.write(&cloud.url(), dir.path());
    let mut child =
        command(dir.path()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let handles = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim().to_owned();
        u64::from_str_radix(&mask, 16).unwrap_or(0) & 1 == 1
    };
    until("a handler", || handles(child.id())).await;
    let id = rustix::process::Pid::from_child(&child);
    for _ in 0..20 {
        rustix::process::kill_process(id, Signal::HUP).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(child.try_wait().unwrap().is_none(), "it lives");
    rustix::process::kill_process(id, Signal::TERM).unwrap();
    let mut status = None;
    until("the end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_edited_file_is_read_without_a_signal() {
    let reloading = Reloading::start(setup()).await;
    setup().set("log.level", "debug").write(&reloading.cloud.url(), reloading.dir.path());
    until(RELOADED, || reloading.count(RELOADED) == 1).await;
    assert_eq!(reloading.record(RELOADED)["keys"], "log.level");
    // An unusable file changes nothing, and is reported once.
    let file = reloading.dir.path().join("yardarm.toml");
    std::fs::write(&file, "log = 7").unwrap();
    until("the refusal", || reloading.count("the configuration cannot be used") == 1).await;
    assert_eq!(reloading.program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 200);
}

#[tokio::test]
async fn an_operator_orders_a_reload_and_is_told_what_has_changed() {
    const TOKEN: &str = "token-of-operators";
    let with_token = || setup().set("admin.token", TOKEN);
    let reloading = Reloading::start(with_token()).await;
    let order = |token: Option<&str>| {
        let call = Call::post("/api/reload", "");
        let call = match token {
            Some(token) => call.header("Authorization", &format!("Bearer {token}")),
            None => call,
        };
        async move { call.to(reloading.program.admin).await }
    };
    assert_eq!((order(None).await.status, order(Some("wrong")).await.status), (401, 401));
    let nothing = json!({"applied": [], "needs_restart": [], "has_new_certificate": false, "warnings": []});
    let answer = order(Some(TOKEN)).await;
    assert_eq!((answer.status, answer.json()), (200, nothing));
    let changed = with_token().set("log.level", "warn,yardarm=info").set("server.max_streams", 7);
    changed.write(&reloading.cloud.url(), reloading.dir.path());
    let answer = order(Some(TOKEN)).await;
    let expected = json!({"applied": ["log.level"], "needs_restart": ["server.max_streams"],
        "has_new_certificate": false, "warnings": []});
    assert_eq!((answer.status, answer.json()), (200, expected));
    with_token().set("log.level", "loud").write(&reloading.cloud.url(), reloading.dir.path());
    let answer = order(Some(TOKEN)).await;
    let text = answer.text();
    assert!(answer.status == 409 && text.contains("`log.level`") && text.contains("`trace`"), "{text}");
}

#[tokio::test]
async fn sdks_with_an_alias_do_not_notice_the_rotation_of_the_key() {
    const ALIAS: &str = "sdk-alias-of-our-own-0123456789";
    const NEW_KEY: &str = "sdk-00000000-1111-2222-3333-444444444499";
    let environment = |sdk_key: &str| {
        let mut environment = main_environment();
        environment["sdk_key"] = sdk_key.into();
        environment["sdk_key_aliases"] = format!("{ALIAS}, sdk-another-alias-0123456789").into();
        environment["mobile_key_aliases"] = "mob-alias-0123456789".into();
        environment
    };
    let reloading = Reloading::start(setup().environments([environment(SDK_KEY)])).await;
    let mut stream = reloading.program.opens("/all", ALIAS).await;
    stream.receives("put", put(some_data())).await;
    reloading.program.opens("/mping", "mob-alias-0123456789").await.receives_ping().await;
    reloading.cloud.puts(NEW_KEY, &some_data());
    reloading.with(&setup().environments([environment(NEW_KEY)]), RELOADED).await;
    // All data again, from the connection with the new key.
    stream.receives("put", put(some_data())).await;
    reloading.cloud.patches(NEW_KEY, &flag("plain", 50));
    assert_eq!(stream.receives_event("patch").await["data"]["version"], 50, "on the same stream");
    for (key, status) in [(ALIAS, 200), (NEW_KEY, 200), (SDK_KEY, 401)] {
        assert_eq!(reloading.program.answers(&Call::get("/sdk/flags").key(key)).await.status, status, "{key}");
    }
    let line = reloading.record("request with an unknown credential refused");
    assert_eq!((&line["credential"], &line["level"]), (&json!("*4401"), &json!("INFO")));
    assert!(!reloading.program.log().iter().any(|it| it.contains(SDK_KEY) || it.contains(ALIAS)));
}

#[tokio::test]
async fn requests_are_logged_if_that_is_configured() {
    let reloading = Reloading::start(setup().set("log.requests", true)).await;
    let call = Call::get(format!("/sdk/evalx/{}/contexts/{}", crate::running::ENV_ID, crate::running::CTX));
    assert_eq!(reloading.program.answers(&call).await.status, 200);
    until("a line", || reloading.count("request answered") > 0).await;
    let line = reloading.record("request answered");
    let shown = ["method", "route", "status", "environment", "sdk"].map(|it| line[it].clone());
    assert_eq!(json!(shown), json!(["GET", "client.evaluate", 200, "launchdarkly/main", "client"]), "{line}");
    assert!(line["milliseconds"].is_number() && !line.to_string().contains(crate::running::CTX), "{line}");
}
