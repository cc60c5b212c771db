//! Explanations: what plugins did with requests that carry a ticket of an operator.

use serde_json::{Value, json};
use yardarm_testkit::Call;
use yardarm_testkit::guests::{self, Guest, GuestHook};

use super::folder::{Prepared, status_where};
use super::manual::{TOKEN, runs, with_token};
use super::put;
use crate::program::{self, Program};
use crate::running::{CTX, MOBILE_KEY, SDK_KEY};

/// The token of operators in a header.
fn bearer() -> String {
    format!("Bearer {TOKEN}")
}

async fn ticket(program: &Program) -> String {
    let answer = Call::post("/api/explain", "").key(&bearer()).to(program.admin).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    assert_eq!((&answer.json()["header"], &answer.json()["valid_s"]), (&json!("yardarm-explain"), &json!(300)));
    answer.json()["ticket"].as_str().expect("a ticket").to_owned()
}

async fn calls(program: &Program, ticket: &str) -> Vec<Value> {
    let answer = Call::get(format!("/api/explain/{ticket}")).key(&bearer()).to(program.admin).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["calls"].as_array().expect("calls").clone()
}

/// A gate that denies what servers request, and a plugin of results.
async fn prepared() -> Prepared {
    let prepared = Prepared::new(with_token()).await;
    let gate = Guest::new("gate").version("1.2.3").hook(GuestHook::RequestAuth, guests::DENY_WITH_REASON);
    put(&prepared.plugins, "gate.toml", "[[bind]]\nhook = \"request-auth\"\nroutes = [\"server.*\"]");
    put(&prepared.plugins, "gate.wasm", gate.component().expect("a guest"));
    let results = Guest::new("results").hook(GuestHook::EvaluationTransform, guests::ADD_RESULT);
    put(&prepared.plugins, "results.wasm", results.component().expect("a guest"));
    prepared
}

#[tokio::test]
async fn calls_of_requests_with_a_ticket_are_listed() {
    let prepared = prepared().await;
    let program = prepared.start().await;
    status_where(&program, "the gate", |status| runs(status, "1.2.3")).await;
    let (mine, other) = (ticket(&program).await, ticket(&program).await);
    assert_eq!(program.answers(&Call::get("/sdk/flags").key(SDK_KEY)).await.status, 403, "without a ticket");
    let explained = Call::get("/sdk/flags").key(SDK_KEY).header("yardarm-explain", &mine);
    assert_eq!(program.answers(&explained).await.status, 403);
    let found = calls(&program, &mine).await;
    assert_eq!(found.len(), 1, "{found:?}");
    for (key, value) in [
        ("plugin", json!("gate")),
        ("version", json!("1.2.3")),
        ("hook", json!("request-auth")),
        ("environment", json!("launchdarkly/main")),
        ("route", json!("server.poll.flags")),
        ("outcome", json!("deny")),
        ("text", json!("Forbidden: outside of office hours")),
    ] {
        assert_eq!(found[0][key], value, "{found:?}");
    }
    assert!(found[0]["us"].as_u64() > Some(0), "{found:?}");

    let evaluation = Call::get(format!("/msdk/evalx/contexts/{CTX}")).key(MOBILE_KEY);
    assert_eq!(program.answers(&evaluation.header("yardarm-explain", &mine)).await.status, 200);
    let found = calls(&program, &mine).await;
    assert_eq!((found.len(), &found[1]["plugin"], &found[1]["text"]), (2, &json!("results"), &json!("edits: 1")));
    assert_ne!(found[0]["request"], found[1]["request"]);
    assert_eq!(calls(&program, &other).await, Vec::<Value>::new());

    // By the command.
    let admin = program.admin.to_string();
    let run = |arguments: &[&str]| {
        program::run(prepared.dir.path(), &[&["plugin", "explain"], arguments, &["--admin", &admin]].concat())
    };
    let text = String::from_utf8(run(&[&mine]).stdout).expect("text");
    assert!(text.contains("gate 1.2.3") && text.contains("outside of office hours"), "{text}");
    let text = String::from_utf8(run(&[]).stdout).expect("text");
    assert!(text.starts_with("yardarm-explain: "), "{text}");
    let unknown = run(&["0000"]);
    assert!(unknown.status.code() == Some(1) && String::from_utf8_lossy(&unknown.stderr).contains("not valid"));
}

#[tokio::test]
async fn only_operators_get_tickets_and_read_them() {
    let prepared = prepared().await;
    let program = prepared.start().await;
    let ticket = ticket(&program).await;
    for call in [Call::post("/api/explain", ""), Call::get(format!("/api/explain/{ticket}"))] {
        assert_eq!(call.clone().to(program.admin).await.status, 401);
        assert_eq!(call.key("Bearer wrong").to(program.admin).await.status, 401);
    }
    let forged = Call::get("/sdk/flags").key(SDK_KEY).header("yardarm-explain", "forged");
    assert_eq!(program.answers(&forged).await.status, 403, "a header without meaning changes nothing");
    assert_eq!(calls(&program, &ticket).await, Vec::<Value>::new());
}
