//! Manual control of plugins in the real program through HTTP: who may give orders, what each does, and for how long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::guests::{self, Guest, GuestHook};
use yardarm_testkit::{Answer, Call, within};

use super::folder::{Prepared, plugins, row, setup, status_where};
use super::put;
use crate::program::{self, Program, Signal};
use crate::running::{SDK_KEY, Setup};

const REQUIRED: &str = "[[bind]]\nhook = \"request-auth\"\nphase = \"early\"\npriority = -3";
pub(super) const TOKEN: &str = "token-of-operators-0ca9a4e1";

fn gate(version: &str, fragment: &str) -> Vec<u8> {
    Guest::new("gate").version(version).hook(GuestHook::RequestAuth, fragment).component().expect("a component")
}

pub(super) fn with_token() -> Setup {
    setup().set("admin.token", TOKEN)
}

/// A folder with version 1.0.0 of a required plugin.
pub(super) async fn prepared(setup: Setup) -> Prepared {
    let prepared = Prepared::new(setup).await;
    put(&prepared.plugins, "gate.toml", REQUIRED);
    put(&prepared.plugins, "gate.wasm", gate("1.0.0", guests::ALLOW));
    prepared
}

/// Starts the program, and replaces version 1.0.0 of the plugin by version 2.0.0.
pub(super) async fn replaced(prepared: &Prepared) -> Program {
    let program = prepared.start().await;
    put(&prepared.plugins, "gate.wasm", gate("2.0.0", guests::ALLOW));
    status_where(&program, "version 2.0.0", |status| runs(status, "2.0.0")).await;
    program
}

pub(super) fn runs(status: &Value, version: &str) -> bool {
    row(status, "gate")["active"]["version"] == version
}

async fn status_of_flags(program: &Program) -> u16 {
    program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status
}

async fn orders(program: &Program, action: &str) -> Answer {
    let call = Call::post(format!("/api/plugins/gate/{action}"), "").key(&format!("Bearer {TOKEN}"));
    call.to(program.admin).await
}

/// Gives an order that is carried out; returns the answer.
async fn obeys(program: &Program, action: &str) -> Value {
    let answer = orders(program, action).await;
    assert_eq!(answer.status, 200, "{action}: {}", answer.text());
    answer.json()
}

/// Gives an order that is refused; returns status and text.
async fn refuses(program: &Program, action: &str) -> (u16, String) {
    let answer = orders(program, action).await;
    let error = answer.json()["error"].as_str().expect("an error").to_owned();
    (answer.status, error)
}

#[tokio::test]
async fn orders_need_the_token_and_reads_do_not() {
    let prepared = prepared(setup()).await;
    let program = prepared.start().await;
    let path = "/api/plugins/gate/retire";
    let (status, error) = refuses(&program, "retire").await;
    assert!(status == 403 && error.contains("`admin.token`"), "{status} {error}");
    program.signal(Signal::TERM);
    program.ends().await;

    with_token().set("log.format", "json").write(&prepared.cloud.url(), prepared.dir.path());
    let program = prepared.start().await;
    for key in [None, Some("Bearer wrong"), Some(TOKEN), Some("Basic x"), Some("Bearer ")] {
        let call = Call::post(path, "");
        let call = key.map_or(call.clone(), |key| call.key(key));
        let answer = call.to(program.admin).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{key:?}");
        assert!(answer.json()["error"].as_str().is_some_and(|it| it.contains("`admin.token`")), "{key:?}");
    }
    assert!(runs(&plugins(&program).await, "1.0.0"), "nothing has changed");
    // A page in a browser gets no further, whatever it sends.
    let call = Call::post(path, "").key(&format!("Bearer {TOKEN}"));
    for (call, status) in [
        (
            Call::options(path)
                .header("Origin", "https://evil.example")
                .header("Access-Control-Request-Method", "POST"),
            405,
        ),
        (Call::get(path).key(&format!("Bearer {TOKEN}")), 405),
    ] {
        let answer = call.to(program.admin).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, None), "{call}");
    }
    let mut connection = yardarm_testkit::Connection::open(program.admin).await;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: evil.example\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n\r\n"
    );
    connection.sends(request).await;
    assert_eq!(connection.answer("POST").await.expect("an answer").status, 421);
    assert_eq!(call.to(program.admin).await.status, 200);
    // Who has ordered what is in the log, and the token is not.
    program.signal(Signal::TERM);
    let (_, log) = program.ends().await;
    let line = log.iter().find(|line| line.contains("order about a plugin carried out")).expect("a line");
    assert!(line.contains("\"peer\":\"127.0.0.1:") && line.contains("retire") && line.contains("gate"), "{line}");
    let refused = log.iter().filter(|line| line.contains("request of an operator refused")).count();
    assert_eq!(refused, 5);
    assert!(!log.iter().any(|line| line.contains("0ca9a4e1")), "{log:#?}");
}

#[tokio::test]
async fn each_order_has_its_effect_at_once() {
    let prepared = prepared(with_token()).await;
    let program = replaced(&prepared).await;
    assert!(row(&plugins(&program).await, "gate")["probation"].is_object());
    let promoted = obeys(&program, "promote").await;
    assert_eq!((&promoted["changed"], &promoted["durable"]), (&json!(true), &json!(true)));
    assert_eq!(promoted["plugin"]["probation"], Value::Null);
    let (status, error) = refuses(&program, "promote").await;
    assert!(status == 409 && error.contains("not on probation"), "{error}");

    assert_eq!(obeys(&program, "pin").await["plugin"]["pinned"], true);
    assert_eq!(obeys(&program, "pin").await["changed"], false);
    put(&prepared.plugins, "gate.wasm", gate("3.0.0", guests::ALLOW));
    status_where(&program, "the advice", |status| row(status, "gate")["advice"].is_string()).await;
    assert!(runs(&plugins(&program).await, "2.0.0"));
    assert_eq!(obeys(&program, "unpin").await["plugin"]["pinned"], false);
    status_where(&program, "version 3.0.0", |status| runs(status, "3.0.0")).await;

    // The version before is warm, so it is in place with the answer.
    let rolled_back = obeys(&program, "rollback").await;
    assert_eq!(rolled_back["plugin"]["active"]["version"], "2.0.0");
    assert_eq!(rolled_back["plugin"]["quarantined"][0]["version"], "3.0.0");
    obeys(&program, "clear").await;
    status_where(&program, "version 3.0.0", |status| runs(status, "3.0.0")).await;
    assert_eq!(obeys(&program, "clear").await["changed"], false);

    let retired = obeys(&program, "retire").await;
    assert_eq!((&retired["plugin"]["state"], &retired["durable"]), (&json!("retired"), &json!(true)));
    assert_eq!(status_of_flags(&program).await, 200, "its hooks do not fail closed");
    assert_eq!(refuses(&program, "pin").await.0, 409);
    obeys(&program, "reinstate").await;
    status_where(&program, "the plugin", |status| runs(status, "3.0.0")).await;
    let (status, error) = refuses(&program, "rollback").await;
    assert!(status == 409 && error.contains("no version of the plugin to return to"), "{error}");

    let unknown = Call::post("/api/plugins/other/pin", "").key(&format!("Bearer {TOKEN}")).to(program.admin).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().is_some_and(|it| it.contains("`other`")), "{}", unknown.text());
    let (status, error) = refuses(&program, "explode").await;
    assert!(status == 404 && error.contains("rollback, pin"), "{error}");
}

#[tokio::test]
async fn a_pin_and_a_retirement_outlive_a_crash() {
    let prepared = prepared(with_token()).await;
    let program = replaced(&prepared).await;
    obeys(&program, "pin").await;
    // Not even a moment later: the answer comes after the write.
    program.signal(Signal::KILL);
    program.ends().await;
    put(&prepared.plugins, "gate.wasm", gate("3.0.0", guests::ALLOW));
    let program = prepared.start().await;
    let status = status_where(&program, "the pinned version", |status| runs(status, "2.0.0")).await;
    assert_eq!(row(&status, "gate")["pinned"], true);
    obeys(&program, "retire").await;
    program.signal(Signal::KILL);
    program.ends().await;
    let program = prepared.start().await;
    assert_eq!(row(&plugins(&program).await, "gate")["state"], "retired");
    assert_eq!(status_of_flags(&program).await, 200);
}

#[tokio::test]
async fn without_a_data_folder_the_answer_says_how_long_an_order_holds() {
    let prepared = prepared(with_token()).await;
    with_token().set("data.dir", "").set("log.format", "json").write(&prepared.cloud.url(), prepared.dir.path());
    let program = prepared.start().await;
    for action in ["pin", "retire"] {
        let answer = obeys(&program, action).await;
        assert_eq!((&answer["changed"], &answer["durable"]), (&json!(true), &json!(false)), "{action}");
        assert!(answer["text"].as_str().is_some_and(|it| it.contains("`data.dir`")), "{answer}");
    }
    program.signal(Signal::KILL);
    program.ends().await;
    let program = prepared.start().await;
    assert!(runs(&plugins(&program).await, "1.0.0"));
}

#[tokio::test]
async fn orders_and_changes_of_the_folder_at_once_fail_no_request() {
    let prepared = prepared(with_token()).await;
    let program = replaced(&prepared).await;
    let is_over = AtomicBool::new(false);
    let calls = async {
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(status_of_flags(&program).await, 200);
        }
    };
    let control = async {
        for round in 3..9 {
            put(&prepared.plugins, "gate.wasm", gate(&format!("{round}.0.0"), guests::ALLOW));
            let (first, second) = tokio::join!(orders(&program, "rollback"), orders(&program, "pin"));
            for answer in [first, second] {
                assert!([200, 409].contains(&answer.status), "{}", answer.text());
            }
            tokio::time::sleep(Duration::from_millis(40 * round)).await;
            for action in ["promote", "unpin", "clear"] {
                assert!([200, 409].contains(&orders(&program, action).await.status), "{action}");
            }
        }
        // Whatever came first: in the end the newest file runs.
        status_where(&program, "the newest version", |status| runs(status, "8.0.0")).await;
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(calls, control);
}

#[tokio::test]
async fn a_token_is_replaced_by_a_reload_and_a_weak_one_is_refused() {
    let prepared = prepared(with_token()).await;
    let program = prepared.start().await;
    let token = |token: &str| {
        let setup = with_token().set("admin.token", token).set("log.format", "json");
        let data = prepared.dir.path().join("data");
        setup.set("data.dir", data.to_str()).write(&prepared.cloud.url(), prepared.dir.path());
    };
    token("token-of-other-operators");
    program.signal(Signal::HUP);
    within("the new token", async {
        while orders(&program, "pin").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let call = Call::post("/api/plugins/gate/pin", "").key("Bearer token-of-other-operators");
    assert_eq!(call.to(program.admin).await.status, 200);
    token("short");
    let checked = program::run(prepared.dir.path(), &["check"]);
    let text = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(text.contains("`admin.token`") && text.contains("16 characters") && !text.contains("short"), "{text}");
}
